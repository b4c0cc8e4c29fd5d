"""From an answer to `traffic_query` to traffic, and what becomes of it when one thing is wrong."""

from collections.abc import Iterable
from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shift_operator.api.signals import (
    TRAFFIC_SOURCES,
    Attainment,
    DeploymentKey,
    Known,
    LatencyLimits,
    SpanCounts,
    Traffic,
    Unknown,
    UnknownWhy,
)
from shift_operator.prometheus.client import QueryResult, Sample
from shift_operator.prometheus.traffic import read_traffic
from shift_operator.prometheus.traffic_query import TrafficPart

CHAT = DeploymentKey("prod", "chat")
AT = 1_800_000_000.0
LIMITS = LatencyLimits(ttft_seconds=0.8, tpot_seconds=0.05)
VALUES = {
    TrafficPart.FINISH_RATE: 2.5,
    TrafficPart.IN_SYSTEM_SLOPE: -0.1,
    TrafficPart.SPAN_MEAN: 75.0,
    TrafficPart.SPAN_DEVIATION: 12.5,
    TrafficPart.PROMPT_TOKENS: 1155.0,
    TrafficPart.OUTPUT_TOKENS: 211.0,
    TrafficPart.PREFIX_HIT_RATIO: 0.37,
    TrafficPart.RUNNING: 12.0,
    TrafficPart.WAITING: 3.0,
    TrafficPart.KV_USAGE: 0.6,
    TrafficPart.TPOT_SECONDS: 0.03,
    TrafficPart.PODS_REPORTING: 2.0,
    TrafficPart.SAMPLED_AT: AT - 7,
}
TTFT = {"0.5": 200.0, "0.75": 280.0, "1.0": 295.0, "+Inf": 300.0}
TPOT = {"0.025": 100.0, "0.05": 250.0, "0.075": 290.0, "+Inf": 300.0}
CAPACITY = {"kv_cache_size_tokens": "480000", "num_gpu_blocks": "30000", "block_size": "16"}
SIGNAL_OF = {"kv_capacity": "kv_capacity_tokens", "span_mean": "span_counts", "span_deviation": "span_counts"}
NO_SIGNAL = (TrafficPart.SAMPLED_AT, TrafficPart.METRIC_PODS)


def sample(part: TrafficPart, value: float, **labels: str) -> Sample:
    return Sample({"namespace": "prod", "deployment": "chat", "signal": str(part), **labels}, value)


def samples() -> list[Sample]:
    return [
        *(sample(part, value) for part, value in VALUES.items()),
        *(sample(TrafficPart.TTFT, count, le=le) for le, count in TTFT.items()),
        *(sample(TrafficPart.TPOT, count, le=le) for le, count in TPOT.items()),
        sample(TrafficPart.KV_CAPACITY, 1.0, **CAPACITY),
        *(sample(TrafficPart.METRIC_PODS, 2.0, __name__=metric) for metric in set(TRAFFIC_SOURCES.values())),
    ]


def read(these: Iterable[Sample], *warnings: str, limits: LatencyLimits = LIMITS) -> Traffic:
    return read_traffic(QueryResult(tuple(these), warnings, AT), {CHAT: limits})[CHAT]


def without(part: TrafficPart, **labels: str) -> list[Sample]:
    return [s for s in samples() if not s.labels.items() >= {"signal": str(part), **labels}.items()]


def test_a_whole_answer_is_all_known() -> None:
    traffic = read(samples())
    assert traffic.unknown() == ()
    assert {name: value.source for name, value in traffic if isinstance(value, Known)} == TRAFFIC_SOURCES
    assert {(value.age(AT), value.pods) for _, value in traffic if isinstance(value, Known)} == {(7, 2)}
    values = {name: value.value for name, value in traffic if isinstance(value, Known)}
    assert values == {
        "finish_rate": 2.5,
        "in_system_slope": -0.1,
        "span_counts": SpanCounts(75, 12.5),
        "prompt_tokens": 1155,
        "output_tokens": 211,
        "prefix_hit_ratio": 0.37,
        "running": 12,
        "waiting": 3,
        "kv_usage": 0.6,
        "kv_capacity_tokens": 480_000,
        "ttft": Attainment(280, 300, 0.75),
        "tpot": Attainment(250, 300, 0.05),
        "tpot_seconds": 0.03,
        "pods_reporting": 2,
    }


@pytest.mark.parametrize("part", [part for part in TrafficPart if part not in NO_SIGNAL])
def test_one_signal_that_is_absent_takes_no_other_with_it(part: TrafficPart) -> None:
    (unknown,) = read(without(part)).unknown()
    assert unknown.why is UnknownWhy.ABSENT
    assert unknown.source == TRAFFIC_SOURCES[SIGNAL_OF.get(part, part)]


@pytest.mark.parametrize("value", [nan, inf, -inf])
@pytest.mark.parametrize("part", [part for part in TrafficPart if part not in (*NO_SIGNAL, TrafficPart.KV_CAPACITY)])
def test_one_signal_that_is_no_number_takes_no_other_with_it(part: TrafficPart, value: float) -> None:
    (unknown,) = read(Sample(s.labels, value) if s.labels["signal"] == part else s for s in samples()).unknown()
    assert (unknown.why, unknown.source) == (UnknownWhy.NOT_A_NUMBER, TRAFFIC_SOURCES[SIGNAL_OF.get(part, part)])


@pytest.mark.parametrize("metric", sorted(set(TRAFFIC_SOURCES.values()) - {"vllm:num_requests_running"}))
@pytest.mark.parametrize("pods", [0.0, 1.0])
def test_a_metric_that_a_pod_lacks_makes_its_signals_partial(metric: str, pods: float) -> None:
    """A pod of another engine version, which others' sums leave out in silence; 0 of a metric that all have lost."""
    having = [s for s in samples() if s.labels.get("__name__") != metric]
    if pods:
        having.append(sample(TrafficPart.METRIC_PODS, pods, __name__=metric))
    unknown = read(having).unknown()
    assert {one.source for one in unknown} == {metric}
    assert {(one.why, one.detail) for one in unknown} == {
        (UnknownWhy.PARTIAL, f"{pods:.0f} of 2 reporting pods have it")
    }


def test_only_a_slope_may_fall() -> None:
    falling = [Sample(s.labels, -1.0) if s.labels["signal"] in VALUES else s for s in samples()]
    known = {name for name, value in read([*falling, sample(TrafficPart.SAMPLED_AT, AT)]) if isinstance(value, Known)}
    assert known == set()  # two times of the samples are none
    still = [s for s in falling if s.labels["signal"] != TrafficPart.SAMPLED_AT]
    known = {name for name, value in read([*still, sample(TrafficPart.SAMPLED_AT, AT)]) if isinstance(value, Known)}
    assert known == {"in_system_slope", "kv_capacity_tokens", "ttft", "tpot"}


def test_an_idle_deployment_has_a_known_rate_of_0_and_no_mix() -> None:
    means = (
        TrafficPart.PROMPT_TOKENS,
        TrafficPart.OUTPUT_TOKENS,
        TrafficPart.PREFIX_HIT_RATIO,
        TrafficPart.TPOT_SECONDS,
    )
    idle = [
        Sample(s.labels, 0.0) if s.labels["signal"] in (TrafficPart.FINISH_RATE, TrafficPart.TTFT) else s
        for s in samples()
        if s.labels["signal"] not in means
    ]
    traffic = read(idle)
    assert isinstance(traffic.finish_rate, Known)
    assert isinstance(traffic.ttft, Known)
    assert (traffic.finish_rate.value, traffic.ttft.value) == (0, Attainment(0, 0, 0.75))
    assert {(one.why, one.detail) for one in traffic.unknown()} == {(UnknownWhy.ABSENT, "no request in the window")}
    assert len(traffic.unknown()) == len(means)


def test_no_objective_has_no_attainment() -> None:
    detail = "the deployment has no such objective"
    assert read(samples(), limits=LatencyLimits(tpot_seconds=0.05)).unknown() == (
        Unknown(UnknownWhy.ABSENT, TRAFFIC_SOURCES["ttft"], detail),
    )
    assert len(read_traffic(QueryResult(tuple(samples()), (), AT), {})[CHAT].unknown()) == 2


def test_a_limit_below_every_bucket_cannot_be_counted() -> None:
    (unknown,) = read(samples(), limits=LatencyLimits(0.001, 0.05)).unknown()
    assert (unknown.why, unknown.detail) == (
        UnknownWhy.PARTIAL,
        "the limit of 0.001 s lies below the lowest bucket edge, 0.5 s",
    )


def test_a_histogram_without_its_last_bucket_is_partial() -> None:
    (unknown,) = read(without(TrafficPart.TTFT, le="+Inf")).unknown()
    assert (unknown.why, unknown.detail) == (UnknownWhy.PARTIAL, "the bucket le=+Inf is missing")


@given(st.floats(min_value=0.5, max_value=1e6))
def test_attainment_is_counted_at_the_highest_edge_that_the_limit_allows(limit: float) -> None:
    ttft = read(samples(), limits=LatencyLimits(limit, 0.05)).ttft
    assert isinstance(ttft, Known)
    edge = ttft.value.limit_seconds
    assert edge <= limit * (1 + 1e-9)
    assert not any(edge < float(other) <= limit for other in TTFT if other != "+Inf")
    assert ttft.value.within == TTFT[f"{edge:g}" if edge < 1 else "1.0"]


def test_an_edge_may_be_written_either_way() -> None:
    """Prometheus 2 keeps le="1.0" as it was exposed, Prometheus 3 writes it as le="1"."""
    written = [sample(TrafficPart.TTFT, 295.0, le="1") if s.labels.get("le") == "1.0" else s for s in samples()]
    for these in (samples(), written):
        ttft = read(these, limits=LatencyLimits(1.0, 0.05)).ttft
        assert isinstance(ttft, Known)
        assert ttft.value == Attainment(295, 300, 1.0)


def test_an_edge_that_is_written_both_ways_is_one() -> None:
    """For a window after Prometheus was updated from 2 to 3."""
    both = [*samples(), sample(TrafficPart.TTFT, 5.0, le="1"), sample(TrafficPart.TTFT, 5.0, le="Inf")]
    ttft = read(both, limits=LatencyLimits(1.0, 0.05)).ttft
    assert isinstance(ttft, Known)
    assert ttft.value == Attainment(300, 305, 1.0)


def test_the_kv_capacity_is_the_lowest_over_the_pods() -> None:
    other = sample(TrafficPart.KV_CAPACITY, 1.0, **CAPACITY | {"kv_cache_size_tokens": "320000"})
    traffic = read([*samples(), other])
    assert isinstance(traffic.kv_capacity_tokens, Known)
    assert traffic.kv_capacity_tokens.value == 320_000


@pytest.mark.parametrize("tokens", [{}, {"kv_cache_size_tokens": "None"}])
def test_a_vllm_that_does_not_tell_its_tokens_tells_its_blocks(tokens: dict[str, str]) -> None:
    old = sample(TrafficPart.KV_CAPACITY, 1.0, num_gpu_blocks="30000", block_size="16", **tokens)
    traffic = read([*without(TrafficPart.KV_CAPACITY), old])
    assert isinstance(traffic.kv_capacity_tokens, Known)
    assert traffic.kv_capacity_tokens.value == 480_000


def test_a_vllm_that_tells_neither_is_no_number() -> None:
    none = sample(TrafficPart.KV_CAPACITY, 1.0, num_gpu_blocks="None", block_size="16")
    (unknown,) = read([*without(TrafficPart.KV_CAPACITY), none]).unknown()
    assert (unknown.why, unknown.detail) == (
        UnknownWhy.NOT_A_NUMBER,
        "label num_gpu_blocks is 'None', no positive number",
    )


def test_a_share_beyond_1_is_none_and_one_of_rounding_is_1() -> None:
    def with_ratio(value: float) -> Traffic:
        return read(Sample(s.labels, value) if s.labels["signal"] == "prefix_hit_ratio" else s for s in samples())

    rounded = with_ratio(1.0004).prefix_hit_ratio
    assert isinstance(rounded, Known)
    assert rounded.value == 1
    (unknown,) = with_ratio(37.0).unknown()
    assert (unknown.why, unknown.detail) == (UnknownWhy.NOT_A_NUMBER, "37 is no share of 1")


def test_a_warning_makes_the_whole_answer_partial() -> None:
    unknown = read(samples(), "store 10.0.0.7 is away").unknown()
    assert len(unknown) == len(TRAFFIC_SOURCES)
    assert {(one.why, one.detail) for one in unknown} == {
        (UnknownWhy.PARTIAL, "Prometheus warns: store 10.0.0.7 is away")
    }


def test_each_deployment_has_its_own_limits() -> None:
    other = DeploymentKey("dev", "chat")
    both = [*samples(), *(Sample({**s.labels, "namespace": "dev"}, s.value) for s in samples())]
    read_both = read_traffic(QueryResult(tuple(both), (), AT), {CHAT: LIMITS, other: LatencyLimits(0.5)})
    edges = {key: of.ttft.value.limit_seconds for key, of in read_both.items() if isinstance(of.ttft, Known)}
    assert edges == {CHAT: 0.75, other: 0.5}
