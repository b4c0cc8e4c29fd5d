"""What the operator knows of one deployment's traffic, and what it does not: the signals that control decides on.

A signal is `Known` (a value, the moment it was sampled, the series it comes from) or `Unknown` (which series, why).
Unknown is not zero: an idle deployment has a Known count of 0 steps, a deployment nobody scrapes has none. There is
no third state and no default, so a law that forgets to ask does not type-check.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Generic, NamedTuple, Self, TypeAlias, TypeVar, cast

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
    """A signal with a value. `at`: when the oldest sample in it was scraped. `source`: the metric it was read from.

    `pods`: how many pods it comes from; None where it comes from none, such as a count that a reconcile made.
    """

    value: Value
    at: Instant
    source: str
    pods: int | None = None

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


class Sampled:
    """What the groups of signals have in common: each field is a signal."""

    __slots__: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[tuple[str, Signal[object]]]:
        """Each signal with its name."""
        return ((name, getattr(self, name)) for name in self.__slots__)

    def unknown(self) -> tuple[Unknown, ...]:
        """The signals without a value, in the order of the fields; empty when all is known."""
        return tuple(signal for _, signal in self if isinstance(signal, Unknown))

    def as_of(self, now: Instant, max_age_seconds: float) -> Self:
        """The same signals at `now`: those sampled more than `max_age_seconds` ago become Unknown(Stale)."""
        stale = {
            name: Unknown(
                UnknownWhy.STALE, signal.source, f"{signal.age(now):.0f} s old, at most {max_age_seconds:.0f} s allowed"
            )
            for name in self.__slots__
            if isinstance(signal := getattr(self, name), Known) and now - signal.at > max_age_seconds
        }
        return cast(Self, replace(cast(Any, self), **stale)) if stale else self


@dataclass(frozen=True, slots=True)
class Signals(Sampled):
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

    max_sequences: Signal[int]
    """No pod serves more requests at once; the lowest over the pods."""

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


class Attainment(NamedTuple):
    """How many of the requests in the window kept a limit, counted at the limit's exact bucket edge.

    Not a quantile: interpolating in vLLM's buckets errs by up to a bucket. `limit_seconds` is the edge that was
    counted, the highest one at or below the limit of the SLO. No requests is a known 0 of 0.
    """

    within: float
    requests: float
    limit_seconds: float


class SpanCounts(NamedTuple):
    """How many requests finished in each of the last short spans of time: mean and standard deviation over the spans.

    Their ratio tells bursts from an even load: `deviation ** 2 / mean` is the index of dispersion for counts.
    """

    mean: float
    deviation: float


class LatencyLimits(NamedTuple):
    """The limits of a deployment's SLO that attainment is counted at; None where it has none."""

    ttft_seconds: float | None = None
    tpot_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Traffic(Sampled):
    """What is asked of one deployment and how well it answers, pooled over its pods that Prometheus sees now.

    A pod that is gone counts nowhere: not as capacity, and not as load with what it did before it went.
    """

    finish_rate: Signal[float]
    """Requests finished per second. vLLM counts no arrivals: they are this plus `in_system_slope`."""

    in_system_slope: Signal[float]
    """How fast the number of requests running or waiting grows. Unit: requests per second; negative as it falls."""

    span_counts: Signal[SpanCounts]
    """Requests finished in spans of a quarter of the window, over three windows: how much they come in bursts."""

    prompt_tokens: Signal[float]
    """Mean tokens of a prompt, cached ones included."""

    output_tokens: Signal[float]
    """Mean tokens of an answer."""

    prefix_hit_ratio: Signal[float]
    """Share of the prompt tokens that the prefix cache had, 0 to 1: those are not computed again."""

    running: Signal[float]
    """Requests being served, summed over the pods."""

    waiting: Signal[float]
    """Requests waiting for a place in a batch, summed over the pods."""

    kv_usage: Signal[float]
    """Share of the KV cache in use, 0 to 1, the highest over the pods."""

    kv_capacity_tokens: Signal[float]
    """Tokens that one pod's KV cache holds, the lowest over the pods."""

    ttft: Signal[Attainment]
    """Requests whose time to first token kept the SLO's limit."""

    tpot: Signal[Attainment]
    """Requests whose time per output token kept the SLO's limit."""

    tpot_seconds: Signal[float]
    """Mean time per output token. Corrects the performance model."""

    pods_reporting: Signal[int]
    """Pods of this deployment with live series. Fewer than are ready means that all of the above is partial."""


def nothing_known_of_traffic(why: UnknownWhy, detail: str) -> Traffic:
    """The traffic of a deployment of which Prometheus said nothing: each signal is Unknown for the same reason."""
    return Traffic(**{name: Unknown(why, source, detail) for name, source in TRAFFIC_SOURCES.items()})


def nothing_known(why: UnknownWhy, detail: str) -> Signals:
    """The signals of a deployment of which Prometheus said nothing: each is Unknown for the same reason."""
    return Signals(**{name: Unknown(why, source, detail) for name, source in SOURCES.items()})


SOURCES: Mapping[str, str] = {
    "step_sizes": "shift_batched_tokens_bucket",
    "steps": "shift_steps_total",
    "step_time": "shift_step_time_seconds",
    "max_batched_tokens": "shift_max_batched_tokens",
    "max_sequences": "shift_max_sequences",
    "pods_reporting": "shift_max_batched_tokens",
    "threshold_tokens": "shift_threshold_tokens",
    "generation": "shift_schedule_generation",
    "running": "vllm:num_requests_running",
    "waiting": "vllm:num_requests_waiting",
}
"""The metric behind each signal, by the signal's name."""

TRAFFIC_SOURCES: Mapping[str, str] = {
    "finish_rate": "vllm:request_success_total",
    "in_system_slope": "vllm:num_requests_running",
    "span_counts": "vllm:request_prompt_tokens_count",
    "prompt_tokens": "vllm:request_prompt_tokens_sum",
    "output_tokens": "vllm:request_generation_tokens_sum",
    "prefix_hit_ratio": "vllm:prefix_cache_hits_total",
    "running": "vllm:num_requests_running",
    "waiting": "vllm:num_requests_waiting",
    "kv_usage": "vllm:kv_cache_usage_perc",
    "kv_capacity_tokens": "vllm:cache_config_info",
    "ttft": "vllm:time_to_first_token_seconds_bucket",
    "tpot": "vllm:request_time_per_output_token_seconds_bucket",
    "tpot_seconds": "vllm:request_time_per_output_token_seconds_sum",
    "pods_reporting": "vllm:num_requests_running",
}
"""The metric behind each signal of the traffic, by the signal's name."""
