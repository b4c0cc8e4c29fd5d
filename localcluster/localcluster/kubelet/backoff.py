"""How long a container that ended waits for its next start: the kubelet's rule. Pure.

The first restart is immediate, then base, 2*base, 4*base ... up to the cap. An end that comes later than `reset_after`
after the last counted one starts anew. (client-go util/flowcontrol/backoff.go; the kubelet has 10 s, 300 s, 2 * 300 s.)
"""

from __future__ import annotations

from dataclasses import dataclass

CAP_SECONDS = 300.0
RESET_SECONDS = 600.0


@dataclass
class Backoff:
    """One container's history. Times in seconds of any one clock."""

    base: float
    cap: float = CAP_SECONDS
    reset_after: float = RESET_SECONDS
    _delay: float = 0.0
    _counted_at: float | None = None

    def until(self, finished_at: float) -> float:
        """The moment from which a container that ended at `finished_at` may start again."""
        return finished_at if self._forgotten(finished_at) else finished_at + self._delay

    def delay(self) -> float:
        """The present wait in seconds, 0 before the first failure."""
        return self._delay

    def count(self, at: float) -> None:
        """The container starts again (or an attempt failed): the next wait is longer."""
        self._delay = self.base if self._forgotten(at) else min(self._delay * 2, self.cap)
        self._counted_at = at

    def _forgotten(self, at: float) -> bool:
        return self._counted_at is None or at - self._counted_at > self.reset_after
