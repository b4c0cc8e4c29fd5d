"""Whatever a Prometheus or a proxy of one answers, the readers give signals: known ones make sense, others say why."""

from math import inf, isfinite, nan

from hypothesis import given
from hypothesis import strategies as st
from shift_operator.api.signals import (
    SOURCES,
    TRAFFIC_SOURCES,
    Attainment,
    DeploymentKey,
    Known,
    LatencyLimits,
    SpanCounts,
)
from shift_operator.prometheus.client import QueryResult, Sample
from shift_operator.prometheus.contract import Expected, contract_sentence, read_contract
from shift_operator.prometheus.query import Part
from shift_operator.prometheus.signals import read_signals
from shift_operator.prometheus.traffic import read_traffic
from shift_operator.prometheus.traffic_query import TrafficPart

from tests.unit.prometheus import test_an_answer_is_read_strictly as steps
from tests.unit.prometheus import test_traffic_is_read_strictly as traffic

AT = max(steps.AT, traffic.AT)
KEYS = [DeploymentKey("prod", "chat"), DeploymentKey("dev", "chat")]

NUMBERS = ("", "0", "-1", "1", "1.0", "2", "8", "0.5", "64", "+Inf", "Inf", "NaN", "1e400", "x", "None")
VALUES = (0.0, -1.0, 1.0, 2.0, 0.5, 1e300, AT, AT - 30, AT + 30, nan, inf, -inf)
SIGNALS = sorted({*map(str, Part), *map(str, TrafficPart), "pods", "labelled_le", "other"})
METRICS = sorted({*SOURCES.values(), *TRAFFIC_SOURCES.values(), "other"})
NUMBERED = ("le", "sequence", "tensor", "tokens", "kv_cache_size_tokens", "num_gpu_blocks", "block_size")

labels = st.fixed_dictionaries(
    {"namespace": st.sampled_from(["prod", "dev"]), "deployment": st.just("chat"), "signal": st.sampled_from(SIGNALS)},
    optional={name: st.sampled_from(NUMBERS) for name in NUMBERED} | {"__name__": st.sampled_from(METRICS)},
)
samples = st.builds(Sample, labels, st.sampled_from(VALUES))
WHOLE = (*steps.samples(), *traffic.samples())


@st.composite
def results(draw: st.DrawFn) -> QueryResult:
    """A whole answer of both queries, of which some series are gone, others have another value, and some are added."""
    found = list(WHOLE) if draw(st.booleans()) else []
    for at in draw(st.sets(st.integers(0, len(WHOLE) - 1), max_size=8)):
        if found:
            found[at] = Sample(found[at].labels, draw(st.sampled_from(VALUES)))
    gone = draw(st.sets(st.integers(0, len(WHOLE) - 1), max_size=4))
    kept = [sample for at, sample in enumerate(found) if at not in gone]
    return QueryResult((*kept, *draw(st.lists(samples, max_size=8))), (), AT)


@given(results())
def test_every_answer_is_read_and_what_is_known_is_finite(result: QueryResult) -> None:
    for signals in read_signals(result).values():
        for name, signal in signals:
            assert signal.source == SOURCES[name]
        for number in (signals.running, signals.waiting, signals.max_batched_tokens, signals.pods_reporting):
            assert not isinstance(number, Known) or 0 <= number.value < inf
        if isinstance(signals.step_sizes, Known):
            assert all(0 <= bucket.steps < inf for bucket in signals.step_sizes.value)
        if isinstance(signals.step_time, Known):
            assert all(0 < point.seconds < inf for curve in signals.step_time.value.values() for point in curve)
    for asked in read_traffic(result, {KEYS[0]: LatencyLimits(0.5, 0.05)}).values():
        for name, signal in asked:
            if not isinstance(signal, Known):
                assert signal.source == TRAFFIC_SOURCES[name]
                continue
            match signal.value:
                case Attainment(within, requests, limit):
                    assert 0 <= within <= requests < inf
                    assert 0 < limit < inf
                case SpanCounts(mean, deviation):
                    assert 0 <= mean < inf
                    assert 0 <= deviation < inf
                case float() | int() as value:
                    assert isfinite(value)
                    assert value >= 0 or name == "in_system_slope"
                case other:
                    raise AssertionError(f"{name} is {other!r}")


@given(results())
def test_every_answer_to_the_self_test_is_read(result: QueryResult) -> None:
    faults = read_contract(result, {key: Expected(pods=2) for key in KEYS}, max_age_seconds=60)
    assert faults.keys() == set(KEYS)
    assert (contract_sentence(faults) is None) == (not any(faults.values()))
