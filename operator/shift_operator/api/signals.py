"""What the operator knows of one deployment's traffic, and what it does not: the signals that control decides on.

A signal is `Known` (a value, the moment it was sampled, the series it comes from) or `Unknown` (which series, why).
Unknown is not zero: an idle deployment has a Known count of 0 steps, a deployment nobody scrapes has none. There is
no third state and no default, so a law that forgets to ask does not type-check.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Generic, NamedTuple, TypeAlias, TypeVar

from shift_operator.api.schedule import Degree

Value = TypeVar("Value", covariant=True)

Instant: TypeAlias = float
"""A moment in seconds since the Unix epoch, as Prometheus stamps its samples."""


class DeploymentKey(NamedTuple):
    """The ShiftDeployment a series belongs to, by the labels `namespace` and `deployment`."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class UnknownWhy(StrEnum):
    """Why a signal has no value. Closed; it only grows."""

    ABSENT = "Absent"  # Prometheus has no such series of this deployment
    STALE = "Stale"  # the oldest sample of a reporting pod is older than the allowed age
    NOT_A_NUMBER = "NotANumber"  # NaN, infinite or negative where only a count or a time makes sense
    PARTIAL = "Partial"  # some pods, buckets or points are there and others are missing
    UNREACHABLE = "Unreachable"  # the query itself failed, so nothing is known of any deployment


@dataclass(frozen=True, slots=True)
class Known(Generic[Value]):
    """A signal with a value. `at`: when the oldest sample in it was scraped. `source`: the metric it was read from."""

    value: Value
    at: Instant
    source: str

    def age(self, now: Instant) -> float:
        """Seconds since the oldest sample in it was scraped; 0 where this clock is behind Prometheus's."""
        return max(0.0, now - self.at)


@dataclass(frozen=True, slots=True)
class Unknown:
    """A signal without a value. `source`: the metric that would have given it. `detail`: the cause in words."""

    why: UnknownWhy
    source: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.source}: {self.why}" + (f" ({self.detail})" if self.detail else "")


Signal: TypeAlias = Known[Value] | Unknown


class SizeBucket(NamedTuple):
    """Steps whose number of batched tokens n lies in (above, up_to]; `up_to` is infinite in the last bucket."""

    above: int
    up_to: float
    steps: float


class CurvePoint(NamedTuple):
    """A step of `tokens` batched tokens takes `seconds`."""

    tokens: int
    seconds: float


class Span(NamedTuple):
    """The lowest and the highest value over a deployment's reporting pods; equal when they agree."""

    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Signals:
    """Everything one query says of one deployment, pooled over its pods that Prometheus sees now.

    A pod that is gone counts nowhere, not with its last gauge and not with what its counters did before it went.
    """

    step_sizes: Signal[tuple[SizeBucket, ...]]
    """How many steps of which size ran in the window, all degrees together, by ascending size."""

    steps: Signal[Mapping[Degree, float]]
    """How many steps ran in the window, by the degree they ran at."""

    step_time: Signal[Mapping[Degree, tuple[CurvePoint, ...]]]
    """The step-time curve of each degree, mean over the pods, points by ascending tokens."""

    max_batched_tokens: Signal[int]
    """No step is larger than this; the lowest over the pods."""

    pods_reporting: Signal[int]
    """Pods of this deployment with a live series. Compare with the pods that are ready: fewer means partial."""

    threshold_tokens: Signal[Span]
    """The threshold as applied on the ranks."""

    generation: Signal[Span]
    """The schedule generation as confirmed by the ranks."""

    running: Signal[float]
    """Requests being served, summed over the pods."""

    waiting: Signal[float]
    """Requests waiting for a place in a batch, summed over the pods."""

    def __iter__(self) -> Iterator[tuple[str, Signal[object]]]:
        """Each signal with its name."""
        return ((field.name, getattr(self, field.name)) for field in fields(self))

    def unknown(self) -> tuple[Unknown, ...]:
        """The signals without a value, in the order above; empty when all is known."""
        return tuple(signal for _, signal in self if isinstance(signal, Unknown))

    def as_of(self, now: Instant, max_age_seconds: float) -> "Signals":
        """The same signals at `now`: those sampled more than `max_age_seconds` ago become Unknown(Stale)."""
        stale = {
            name: Unknown(
                UnknownWhy.STALE, signal.source, f"{signal.age(now):.0f} s old, at most {max_age_seconds:.0f} s allowed"
            )
            for name, signal in self
            if isinstance(signal, Known) and signal.age(now) > max_age_seconds
        }
        return replace(self, **stale) if stale else self


def nothing_known(why: UnknownWhy, detail: str) -> Signals:
    """The signals of a deployment of which Prometheus said nothing: each is Unknown for the same reason."""
    return Signals(**{name: Unknown(why, source, detail) for name, source in SOURCES.items()})


SOURCES: Mapping[str, str] = {
    "step_sizes": "shift_batched_tokens_bucket",
    "steps": "shift_steps_total",
    "step_time": "shift_step_time_seconds",
    "max_batched_tokens": "shift_max_batched_tokens",
    "pods_reporting": "shift_max_batched_tokens",
    "threshold_tokens": "shift_threshold_tokens",
    "generation": "shift_schedule_generation",
    "running": "vllm:num_requests_running",
    "waiting": "vllm:num_requests_waiting",
}
"""The metric behind each signal, by the signal's name."""
