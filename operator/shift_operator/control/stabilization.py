"""The stabilisation window of the Kubernetes HPA: going down waits until nothing higher was wanted for a while.

The value in force is never below the highest recommendation of the last `seconds`, the present one included. A
recommendation stays known for as long as it can still be that highest one, so a window is at most as long as there
are different numbers of replicas, and fits in a status.
"""

from dataclasses import dataclass
from typing import NamedTuple

from shift_operator.api.signals import Instant


class Recommendation(NamedTuple):
    """At `at`, `replicas` were wanted."""

    at: Instant
    replicas: int


@dataclass(frozen=True, slots=True)
class Window:
    """Recommendations by ascending time and strictly descending replicas. `since`: from when on it misses none."""

    since: Instant
    recommendations: tuple[Recommendation, ...] = ()

    def with_one_more(self, now: Instant, replicas: int, seconds: float) -> "Window":
        """With what is wanted now, and without what no longer counts: too old, or overtaken by a higher number."""
        kept = tuple(r for r in self.recommendations if r.at >= now - seconds and r.replicas > replicas)
        return Window(self.since, (*kept, Recommendation(now, replicas)))

    def highest(self) -> int:
        """The highest number wanted within the window. Raises ValueError where nothing was."""
        return max(r.replicas for r in self.recommendations)

    def is_full(self, now: Instant, seconds: float) -> bool:
        """Whether it reaches back far enough to speak for the whole window: after a cold start it does not."""
        return self.since <= now - seconds
