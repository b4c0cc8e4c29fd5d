"""From a real Prometheus's answer (answer.json, recorded) to signals; what becomes of it when one thing is wrong."""

import json
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Any

import pytest
from shift_operator.api.schedule import Degree
from shift_operator.api.signals import (
    SOURCES,
    CurvePoint,
    DeploymentKey,
    Known,
    Signals,
    Span,
    Unknown,
    UnknownWhy,
)
from shift_operator.prometheus.client import QueryResult, Sample
from shift_operator.prometheus.query import Part
from shift_operator.prometheus.signals import read_signals

CHAT = DeploymentKey("prod", "chat")
ANSWER: list[dict[str, Any]] = json.loads(Path(__file__).with_name("answer.json").read_text())["data"]["result"]
AT: float = ANSWER[0]["value"][0]
TENSOR, SEQUENCE = Degree(sequence=1, tensor=2), Degree(sequence=2, tensor=1)


def samples() -> list[Sample]:
    return [Sample(series["metric"], float(series["value"][1])) for series in ANSWER]


def read(these: list[Sample], *warnings: str) -> Signals:
    return read_signals(QueryResult(tuple(these), warnings, AT))[CHAT]


def without(part: Part, **labels: str) -> list[Sample]:
    return [sample for sample in samples() if not is_of(sample, part, labels)]


def with_value(value: float, part: Part, **labels: str) -> list[Sample]:
    return [Sample(s.labels, value) if is_of(s, part, labels) else s for s in samples()]


def with_label(name: str, value: str, part: Part, **labels: str) -> list[Sample]:
    return [Sample({**s.labels, name: value}, s.value) if is_of(s, part, labels) else s for s in samples()]


def is_of(sample: Sample, part: Part, labels: dict[str, str]) -> bool:
    return sample.labels.items() >= {"signal": str(part), **labels}.items()


def test_a_whole_answer_is_all_known() -> None:
    signals = read(samples())
    assert signals.unknown() == ()
    assert {name: signal.source for name, signal in signals if isinstance(signal, Known)} == SOURCES
    assert isinstance(signals.step_sizes, Known)
    edges = [(bucket.above, bucket.up_to) for bucket in signals.step_sizes.value]
    assert edges == [(0, 4), (4, 8), (8, 512), (512, 768), (768, 1024), (1024, inf)]
    steps = {bucket.up_to: bucket.steps for bucket in signals.step_sizes.value if bucket.steps}
    assert set(steps) == {8, 768}
    assert steps[8] == pytest.approx(9 * steps[768])
    assert isinstance(signals.steps, Known)
    assert signals.steps.value == pytest.approx({TENSOR: steps[8], SEQUENCE: steps[768]})
    assert isinstance(signals.step_time, Known)
    assert signals.step_time.value[TENSOR] == ((1, 0.00401), (64, 0.00464), (1024, pytest.approx(0.01424)))
    assert isinstance(signals.running, Known)
    assert signals.running.value == 3
    assert 0 <= signals.running.age(AT) < 2


@pytest.mark.parametrize(
    ("signal", "part"),
    [
        ("step_sizes", Part.STEP_SIZES),
        ("steps", Part.STEPS),
        ("step_time", Part.STEP_TIME),
        ("max_batched_tokens", Part.MAX_BATCHED_TOKENS),
        ("max_sequences", Part.MAX_SEQUENCES),
        ("pods_reporting", Part.PODS_REPORTING),
        ("threshold_tokens", Part.THRESHOLD_LOW),
        ("threshold_tokens", Part.THRESHOLD_HIGH),
        ("generation", Part.GENERATION_LOW),
        ("generation", Part.GENERATION_HIGH),
        ("running", Part.RUNNING),
        ("waiting", Part.WAITING),
    ],
)
class TestOneSignalThatIsWrongTakesNoOtherWithIt:
    def test_absent(self, signal: str, part: Part) -> None:
        assert read(without(part)).unknown() == (Unknown(UnknownWhy.ABSENT, SOURCES[signal]),)

    @pytest.mark.parametrize("value", [float("nan"), inf, -1.0])
    def test_not_a_number(self, signal: str, part: Part, value: float) -> None:
        (unknown,) = read(with_value(value, part)).unknown()
        assert (unknown.why, unknown.source) == (UnknownWhy.NOT_A_NUMBER, SOURCES[signal])


@pytest.mark.parametrize(
    "part", [Part.MAX_BATCHED_TOKENS, Part.PODS_REPORTING, Part.THRESHOLD_LOW, Part.GENERATION_LOW]
)
def test_a_count_that_is_not_whole_is_no_count(part: Part) -> None:
    (unknown,) = read(with_value(1.5, part)).unknown()
    assert unknown.why is UnknownWhy.NOT_A_NUMBER


def test_a_metric_that_a_pod_lacks_is_partial() -> None:
    """Sums leave that pod out in silence: the recorded pod reports, and a second one does without its steps."""
    two_pods = [
        Sample(s.labels, 2.0) if s.labels["signal"] in ("pods_reporting", "metric_pods") else s for s in samples()
    ]
    assert read(two_pods).unknown() == ()
    lacking = [Sample(s.labels, 1.0) if s.labels.get("__name__") == "shift_steps_total" else s for s in two_pods]
    detail = "1 of 2 reporting pods have it"
    assert read(lacking).unknown() == (Unknown(UnknownWhy.PARTIAL, "shift_steps_total", detail),)


def test_two_values_where_one_belongs_are_none() -> None:
    """A recording rule or a federation that adds a label of its own."""
    twice = Sample({"namespace": "prod", "deployment": "chat", "signal": "running", "replica": "b"}, 4)
    (unknown,) = read([*samples(), twice]).unknown()
    assert (unknown.source, unknown.detail) == (SOURCES["running"], "2 values of running where one belongs")


def test_without_the_time_of_the_samples_nothing_is_known() -> None:
    assert {unknown.why for unknown in read(without(Part.SAMPLED_AT)).unknown()} == {UnknownWhy.ABSENT}
    assert len(read(without(Part.SAMPLED_AT)).unknown()) == len(SOURCES)


def test_a_histogram_without_its_last_bucket_is_partial() -> None:
    (unknown,) = read(without(Part.STEP_SIZES, le="+Inf")).unknown()
    assert (unknown.why, unknown.detail) == (UnknownWhy.PARTIAL, "the bucket le=+Inf is missing")


def test_an_edge_that_is_written_twice_is_one_bucket() -> None:
    """For a window after Prometheus was updated from 2 to 3."""
    (last,) = [s for s in samples() if is_of(s, Part.STEP_SIZES, {"le": "+Inf"})]
    signals = read([*samples(), Sample({**last.labels, "le": "Inf"}, 7)])
    assert isinstance(signals.step_sizes, Known)
    assert [bucket.up_to for bucket in signals.step_sizes.value][-2:] == [1024, inf]
    assert signals.step_sizes.value[-1].steps == pytest.approx(7)


def test_extrapolation_may_leave_a_bucket_a_hair_below_the_one_before() -> None:
    below = next(s.value for s in samples() if is_of(s, Part.STEP_SIZES, {"le": "8.0"}))
    signals = read(with_value(below - 1e-9, Part.STEP_SIZES, le="512.0"))
    assert isinstance(signals.step_sizes, Known)
    assert all(bucket.steps >= 0 for bucket in signals.step_sizes.value)
    assert sum(bucket.steps for bucket in signals.step_sizes.value) == pytest.approx(below / 0.9)


def test_curves_that_differ_in_their_sizes_are_partial() -> None:
    (unknown,) = read(without(Part.STEP_TIME, sequence="2", tokens="64")).unknown()
    assert unknown.why is UnknownWhy.PARTIAL
    assert unknown.detail == "the curves differ in their sizes: 1x2 at 3 sizes, 2x1 at 2 sizes"


def test_a_step_that_takes_no_time_is_no_measurement() -> None:
    (unknown,) = read(with_value(0, Part.STEP_TIME, tokens="64")).unknown()
    assert (unknown.why, unknown.detail) == (UnknownWhy.NOT_A_NUMBER, "a step of 64 tokens takes 0 s")


@pytest.mark.parametrize(
    ("spoil", "detail"),
    [
        (lambda: with_label("le", "wide", Part.STEP_SIZES, le="8.0"), "label le is 'wide', no positive number"),
        (lambda: with_label("tokens", "-8", Part.STEP_TIME, tokens="64"), "label tokens is '-8', no positive number"),
        (lambda: with_label("tokens", "8.5", Part.STEP_TIME, tokens="64"), "label tokens is '8.5', no whole number"),
        (lambda: with_label("tokens", "+Inf", Part.STEP_TIME, tokens="64"), "label tokens is '+Inf', no whole number"),
        (lambda: with_label("sequence", "", Part.STEPS), "label sequence is '', no positive number"),
        (lambda: with_label("sequence", "4096", Part.STEPS), "4096x2 is no degree of one replica"),
    ],
)
def test_labels_that_make_no_sense(spoil: Callable[[], list[Sample]], detail: str) -> None:
    (unknown,) = read(spoil()).unknown()
    assert (unknown.why, unknown.detail) == (UnknownWhy.NOT_A_NUMBER, detail)


def test_a_warning_makes_the_whole_answer_partial() -> None:
    unknown = read(samples(), "store 10.0.0.7 is away").unknown()
    assert len(unknown) == len(SOURCES)
    assert {str(one) for one in unknown} == {
        f"{source}: Partial (Prometheus warns: store 10.0.0.7 is away)" for source in SOURCES.values()
    }


def test_a_pod_unseen_for_a_while_makes_the_signals_old_and_then_stale() -> None:
    signals = read(with_value(AT - 90, Part.SAMPLED_AT))
    assert signals.unknown() == ()
    assert signals.as_of(AT, max_age_seconds=90).unknown() == ()
    stale = signals.as_of(AT, max_age_seconds=60).unknown()
    assert {(one.why, one.detail) for one in stale} == {(UnknownWhy.STALE, "90 s old, at most 60 s allowed")}
    assert len(stale) == len(SOURCES)


def test_the_same_name_in_another_namespace_is_another_deployment() -> None:
    other = [
        Sample({**s.labels, "namespace": "dev"}, 7.0 if is_of(s, Part.RUNNING, {}) else s.value) for s in samples()
    ]
    both = read_signals(QueryResult((*samples(), *other), (), AT))
    running = {key: of.running.value for key, of in both.items() if isinstance(of.running, Known)}
    assert running == {CHAT: 3, DeploymentKey("dev", "chat"): 7}


def test_series_without_our_labels_are_not_ours() -> None:
    assert read_signals(QueryResult((Sample({"signal": "running", "namespace": "prod"}, 1),), (), AT)) == {}
    assert read_signals(QueryResult((), (), AT)) == {}


def test_both_ends_of_a_span() -> None:
    signals = read(with_value(256, Part.THRESHOLD_LOW))
    assert isinstance(signals.threshold_tokens, Known)
    assert signals.threshold_tokens.value == Span(256, 512)


def test_points_are_in_order_whatever_the_answers_order() -> None:
    signals = read(list(reversed(samples())))
    assert isinstance(signals.step_time, Known)
    assert all(list(points) == sorted(points) for points in signals.step_time.value.values())
    assert isinstance(signals.step_time.value[TENSOR][0], CurvePoint)
