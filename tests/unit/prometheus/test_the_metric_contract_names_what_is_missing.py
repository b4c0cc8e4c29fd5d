"""From the answer to `contract_query` to the names of the series that are missing, stale or on some pods only."""

import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote_plus

from shift_operator.api.signals import SOURCES, TRAFFIC_SOURCES, DeploymentKey, Unknown, UnknownWhy
from shift_operator.prometheus.client import QueryResult, Sample
from shift_operator.prometheus.contract import (
    STEP_SERIES,
    TRAFFIC_SERIES,
    Expected,
    contract_query,
    contract_sentence,
    read_contract,
)
from shift_operator.prometheus.query import MAX_LENGTH, cluster_query
from shift_operator.prometheus.traffic_query import traffic_query

CHAT = DeploymentKey("prod", "chat")
AT = 1_800_000_000.0
EVERY = [series.metric for series in (*STEP_SERIES, *TRAFFIC_SERIES)]


def sample(signal: str, metric: str | None, value: float, **labels: str) -> Sample:
    name = {"__name__": metric} if metric else {}
    return Sample({"namespace": "prod", "deployment": "chat", "signal": signal, **name, **labels}, value)


def answer(pods: int = 2) -> list[Sample]:
    """A part `labelled` stands for all of them, as they come by their labels."""
    counted = [sample(signal, metric, pods) for metric in EVERY for signal in ("pods", "labelled")]
    return [*counted, sample("steps_sampled_at", None, AT - 10), sample("traffic_sampled_at", None, AT - 12)]


def read(these: Iterable[Sample], *warnings: str, of: Expected | None = None) -> tuple[Unknown, ...]:
    result = QueryResult(tuple(these), warnings, AT)
    return read_contract(result, {CHAT: of or Expected(pods=2)}, max_age_seconds=60)[CHAT]


def without(metric: str, *signals: str) -> list[Sample]:
    return [s for s in answer() if s.labels.get("__name__") != metric or s.labels["signal"] not in signals]


def test_a_whole_answer_keeps_the_contract() -> None:
    assert read(answer()) == ()
    assert contract_sentence({CHAT: read(answer())}) is None


def test_each_missing_series_is_named() -> None:
    for metric in EVERY:
        assert read(without(metric, "pods", "labelled")) == (Unknown(UnknownWhy.ABSENT, metric),)
    assert [unknown.source for unknown in read([])] == EVERY


def test_a_series_that_lacks_a_label_says_which_it_needs() -> None:
    (unknown,) = read(without("shift_steps_total", "labelled"))
    assert unknown.why is UnknownWhy.ABSENT
    assert unknown.detail.startswith("only series without all of its labels, pod, sequence, tensor; relabel")


def test_a_series_that_belongs_to_nobody_says_so() -> None:
    nobodys = Sample({"__name__": "shift_steps_total", "signal": "pods"}, 2)
    (unknown,) = read([*without("shift_steps_total", "pods", "labelled"), nobodys])
    assert unknown.detail.startswith("only series without the labels namespace and deployment; relabel")


def test_a_pod_that_lacks_a_series_makes_it_partial() -> None:
    series = [*without("shift_steps_total", "labelled"), sample("labelled", "shift_steps_total", 1)]
    assert read(series) == (Unknown(UnknownWhy.PARTIAL, "shift_steps_total", "1 of 2 ready pods have it"),)


def test_more_pods_than_are_ready_are_no_fault() -> None:
    assert read(answer(pods=3)) == ()


def test_an_old_sample_is_stale() -> None:
    old = [s for s in answer() if s.labels["signal"] != "traffic_sampled_at"]
    unknown = read([*old, sample("traffic_sampled_at", None, AT - 90)])
    assert unknown == (Unknown(UnknownWhy.STALE, "vllm:num_requests_running", "90 s old, at most 60 s allowed"),)


def test_only_what_is_needed_is_asked_for() -> None:
    assert read([], of=Expected(pods=0)) == ()
    only_steps = read([], of=Expected(pods=2, traffic=False))
    assert [unknown.source for unknown in only_steps] == [series.metric for series in STEP_SERIES]
    only_traffic = read([], of=Expected(pods=2, steps=False))
    assert [unknown.source for unknown in only_traffic] == [series.metric for series in TRAFFIC_SERIES]


def test_a_warning_leaves_everything_in_doubt() -> None:
    assert read([], "a store is away") == (
        Unknown(UnknownWhy.PARTIAL, "Prometheus", "Prometheus warns: a store is away"),
    )


def test_one_sentence_names_each_series_once() -> None:
    other = DeploymentKey("prod", "code")
    faults = {CHAT: read(without("shift_steps_total", "pods", "labelled")), other: read([])}
    said = contract_sentence(faults)
    assert said is not None
    assert said.startswith(
        "shift_steps_total: Absent, of prod/chat and 1 more; shift_max_batched_tokens: Absent, of prod/code"
    )
    assert all(said.count(metric + ":") == 1 for metric in EVERY)


def test_it_asks_for_exactly_what_the_queries_read() -> None:
    """A metric that a query reads and the self-test does not know would be missed in silence."""
    read_by_queries = set(re.findall(r"\b(?:shift_|vllm:)\w+", cluster_query() + traffic_query()))
    assert read_by_queries == set(EVERY)
    assert set(SOURCES.values()) | set(TRAFFIC_SOURCES.values()) <= read_by_queries


def test_the_contract_page_names_each_of_them() -> None:
    page = Path(__file__).parents[3].joinpath("docs", "contract.md").read_text()
    names = {re.sub("_(bucket|sum|count)$", "", metric) for metric in EVERY}
    assert [name for name in sorted(names) if f"`{name}`" not in page] == []


def test_the_engines_record_has_each_of_them() -> None:
    folder = Path(__file__).parents[2] / "integration" / "prometheus"
    for record in ("engine_idle.txt", "engine_busy.txt"):
        recorded = {re.split("[{ ]", line)[0] for line in (folder / record).read_text().splitlines()}
        assert set(EVERY) <= recorded


def test_it_fits_into_a_url() -> None:
    assert len(quote_plus(contract_query())) < MAX_LENGTH
