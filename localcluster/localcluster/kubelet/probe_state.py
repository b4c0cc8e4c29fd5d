"""From single probe results to a container's state: thresholds and start values. Pure.

As in pkg/kubelet/prober/worker.go: a result counts once it was seen `threshold` times in a row; else the state stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from localcluster.kubelet.objects import Json


class ProbeKind(StrEnum):
    STARTUP = "startup"
    READINESS = "readiness"
    LIVENESS = "liveness"


@dataclass(frozen=True)
class Timing:
    """A probe's numbers with the API's defaults; seconds and counts in a row."""

    initial_delay: float
    period: float
    timeout: float
    successes: int
    failures: int

    @classmethod
    def of(cls, probe: Json) -> Timing:
        return cls(
            initial_delay=float(probe.get("initialDelaySeconds") or 0),
            period=float(probe.get("periodSeconds") or 10),
            timeout=float(probe.get("timeoutSeconds") or 1),
            successes=int(probe.get("successThreshold") or 1),
            failures=int(probe.get("failureThreshold") or 3),
        )


@dataclass
class ProbeState:
    """`good` is the state: liveness starts good, readiness and startup do not. `settled` once results decided it."""

    kind: ProbeKind
    timing: Timing
    settled: bool = False
    _last: bool | None = None
    _in_a_row: int = 0

    def __post_init__(self) -> None:
        self.good = self.kind is ProbeKind.LIVENESS

    def see(self, success: bool) -> bool:
        """Count one result. True if the state is settled by it: it says success or failure often enough."""
        self._in_a_row = self._in_a_row + 1 if success == self._last else 1
        self._last = success
        if self._in_a_row < (self.timing.successes if success else self.timing.failures):
            return False
        self.good, self.settled = success, True
        return True
