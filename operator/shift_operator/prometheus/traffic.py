"""From the answer to `traffic_query` to typed traffic, as strictly as `signals` reads its own."""

from collections.abc import Callable, Mapping
from math import inf

from shift_operator.api.signals import (
    TRAFFIC_SOURCES,
    Attainment,
    DeploymentKey,
    Instant,
    LatencyLimits,
    SpanCounts,
    Traffic,
    UnknownWhy,
    nothing_known_of_traffic,
)
from shift_operator.prometheus import reading
from shift_operator.prometheus.client import QueryResult, Sample
from shift_operator.prometheus.reading import (
    Doubtful,
    Parts,
    counts_by_edge,
    label_whole,
    number,
    series,
    signed,
    whole,
)
from shift_operator.prometheus.traffic_query import TrafficPart, keeps

NO_LIMITS = LatencyLimits()


def read_traffic(result: QueryResult, limits: Mapping[DeploymentKey, LatencyLimits]) -> dict[DeploymentKey, Traffic]:
    """The traffic of each deployment that the answer to `traffic_query` speaks of.

    `limits` are those of the deployments' SLOs, in seconds; attainment is counted at the highest bucket edge at or
    below each. Deployments that are not in it have none, and no attainment. A deployment that is not in the answer has
    no series at all: `nothing_known_of_traffic(UnknownWhy.ABSENT, ...)`. Where the answer came with warnings it may
    lack series, so every signal is Unknown(Partial) with the warning.
    """
    seen = reading.by_deployment(result)
    warning = reading.warning_in(result)
    if warning is not None:
        return dict.fromkeys(seen, nothing_known_of_traffic(UnknownWhy.PARTIAL, warning))
    return {key: _traffic(parts, limits.get(key, NO_LIMITS), result.at) for key, parts in seen.items()}


def _traffic(parts: Parts, limits: LatencyLimits, at: Instant) -> Traffic:
    read = reading.Reader(parts, TRAFFIC_SOURCES, at).signal
    return Traffic(
        finish_rate=read("finish_rate", number(TrafficPart.FINISH_RATE)),
        in_system_slope=read("in_system_slope", signed(TrafficPart.IN_SYSTEM_SLOPE)),
        span_counts=read("span_counts", _span_counts),
        prompt_tokens=read("prompt_tokens", _mean(TrafficPart.PROMPT_TOKENS)),
        output_tokens=read("output_tokens", _mean(TrafficPart.OUTPUT_TOKENS)),
        prefix_hit_ratio=read("prefix_hit_ratio", _share(_mean(TrafficPart.PREFIX_HIT_RATIO))),
        running=read("running", number(TrafficPart.RUNNING)),
        waiting=read("waiting", number(TrafficPart.WAITING)),
        kv_usage=read("kv_usage", _share(number(TrafficPart.KV_USAGE))),
        kv_capacity_tokens=read("kv_capacity_tokens", _capacity),
        ttft=read("ttft", _attainment(TrafficPart.TTFT, limits.ttft_seconds)),
        tpot=read("tpot", _attainment(TrafficPart.TPOT, limits.tpot_seconds)),
        tpot_seconds=read("tpot_seconds", _mean(TrafficPart.TPOT_SECONDS)),
        pods_reporting=read("pods_reporting", whole(TrafficPart.PODS_REPORTING)),
    )


def _mean(part: TrafficPart) -> Callable[[Parts], float]:
    """Reads a mean over requests. That no request is there to have one is told apart from no such series."""

    def read(parts: Parts) -> float:
        if part not in parts and TrafficPart.FINISH_RATE in parts:
            raise Doubtful(UnknownWhy.ABSENT, "no request in the window")
        return number(part)(parts)

    return read


def _span_counts(parts: Parts) -> SpanCounts:
    return SpanCounts(number(TrafficPart.SPAN_MEAN)(parts), number(TrafficPart.SPAN_DEVIATION)(parts))


def _share(read: Callable[[Parts], float]) -> Callable[[Parts], float]:
    """Reads a value of 0 to 1. Rounding, and two series extrapolated apart, may put it a little above."""

    def read_share(parts: Parts) -> float:
        value = read(parts)
        if value > 1.05:
            raise Doubtful(UnknownWhy.NOT_A_NUMBER, f"{value:g} is no share of 1")
        return min(value, 1.0)

    return read_share


def _capacity(parts: Parts) -> float:
    """The lowest over the pods, which differ when their GPUs or their flags do."""
    return min(map(_capacity_of, series(parts, TrafficPart.KV_CAPACITY)))


def _capacity_of(sample: Sample) -> float:
    # vLLM's own number is right for hybrid models too, whose requests hold blocks of several kinds.
    if "kv_cache_size_tokens" in sample.labels and sample.labels["kv_cache_size_tokens"] != "None":
        return float(label_whole(sample, "kv_cache_size_tokens"))
    return float(label_whole(sample, "num_gpu_blocks") * label_whole(sample, "block_size"))


def _attainment(part: TrafficPart, limit_seconds: float | None) -> Callable[[Parts], Attainment]:
    """Reads how many of the requests kept the limit."""

    def read(parts: Parts) -> Attainment:
        if limit_seconds is None:
            raise Doubtful(UnknownWhy.ABSENT, "the deployment has no such objective")
        counts = counts_by_edge(parts, part)
        edges = [edge for edge in counts if edge != inf and edge <= keeps(limit_seconds)]
        if not edges:
            detail = f"the limit of {limit_seconds:g} s lies below the lowest bucket edge, {min(counts):g} s"
            raise Doubtful(UnknownWhy.PARTIAL, detail)
        edge = max(edges)
        # `increase` extrapolates each series by itself, so a part may come out a hair above the whole.
        return Attainment(min(counts[edge], counts[inf]), counts[inf], edge)

    return read
