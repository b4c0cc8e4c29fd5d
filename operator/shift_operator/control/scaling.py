"""What the replicas law is given besides signals: the user's bounds, the pods, the policy's settings, its own state.

Plain values: the controller fills them from specs, policies and pods, and keeps the state in the status.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from shift_operator.api.signals import Instant
from shift_operator.control.demand import Trend
from shift_operator.control.stabilization import Window

LATE_FACTOR, LATE_SECONDS = 3.0, 600.0
"""A pod that has not become ready after both of these, the factor of the usual time, is late."""


@dataclass(frozen=True, slots=True)
class ReplicaBounds:
    """What the user allows. `idle_replicas` is None where the deployment never sleeps."""

    minimum: int
    maximum: int
    idle_replicas: int | None = None
    idle_after_seconds: float = 900.0

    @property
    def lowest(self) -> int:
        """The fewest there ever are."""
        return self.minimum if self.idle_replicas is None else min(self.idle_replicas, self.minimum)


@dataclass(frozen=True, slots=True)
class PodsSeen:
    """The pods as they are.

    `starting` are on their way: what they will take need not be asked for again. A pod that does not get ready is on
    its way for ever, so it counts as `late` after a while (see `of`), and one that no node takes as `unplaced`: neither
    is capacity. `start_seconds`: from creation to ready, the median as measured. `woken`: a request asks for a
    deployment that sleeps.
    """

    ready: int
    starting: int = 0
    start_seconds: float = 240.0
    woken: bool = False
    late: int = 0
    unplaced: int = 0

    @classmethod
    def of(
        cls,
        ready: int,
        ages_seconds: Iterable[float],
        *,
        start_seconds: float = 240.0,
        unplaced: int = 0,
        woken: bool = False,
    ) -> "PodsSeen":
        """From the ages of the pods that a node has and that are not ready; `unplaced` are those that none takes."""
        ages = tuple(ages_seconds)
        late = sum(age > max(LATE_FACTOR * start_seconds, LATE_SECONDS) for age in ages)
        return cls(ready, len(ages) - late, start_seconds, woken, late, unplaced)


@dataclass(frozen=True, slots=True)
class ReplicaLaw:
    """How the law weighs going up against going down. The policy may set the first two."""

    stabilization_seconds: float = 300.0
    """How long the highest recommendation stays in force. The default of the Kubernetes HPA."""

    max_age_seconds: float = 60.0
    """Signals whose oldest sample is older are unknown. Four scrapes at the chart's 15 s."""

    up_headroom: float = 0.1
    """Share of the arrivals to have room for on top, when asking how many are needed."""

    down_headroom: float = 0.2
    """The same, when asking whether fewer would do. The gap between the two keeps a steady load from flapping."""

    drain_seconds: float = 60.0
    """A queue is to be gone within this time."""

    kv_full: float = 0.9
    """KV cache use from which on a queue waits for memory."""

    kv_room: float = 0.8
    """The KV cache use to size for, and the most that going down may lead to."""

    min_requests: float = 20.0
    """An attainment over fewer requests says nothing."""

    slo_patience_seconds: float = 120.0
    """Time between two steps up for a missed SLO: the window over which attainment is measured."""

    max_up_factor: float = 2.0
    max_up_replicas: int = 4
    """One decision leads to no more than the higher of `before * max_up_factor` and `before + max_up_replicas`."""


@dataclass(frozen=True, slots=True)
class ReplicaState:
    """What one decision leaves to the next. Kept in the status.

    A lost one costs one stabilisation window in which nothing goes down, and nothing else.
    """

    window: Window
    unknown_since: Instant | None = None
    idle_since: Instant | None = None
    raised_at: Instant | None = None
    trend: Trend | None = None
    correction: float = 1.0
    corrected_at: Instant | None = None

    @classmethod
    def fresh(cls, now: Instant) -> "ReplicaState":
        """Of a deployment that is seen for the first time."""
        return cls(Window(since=now))

    def after_a_gap(self, now: Instant) -> "ReplicaState":
        """What it is worth when nobody looked for long: what was learned stays, what counts time begins anew."""
        window = replace(self.window, since=now)
        return replace(self, window=window, unknown_since=None, idle_since=None, corrected_at=None)
