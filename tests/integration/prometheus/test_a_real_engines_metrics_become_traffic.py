"""What a real engine served on /metrics, through a real Prometheus and the real queries, to signals and traffic."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import pytest
from prometheus_client.parser import text_string_to_metric_families
from shift_operator.api.signals import (
    Attainment,
    DeploymentKey,
    Known,
    LatencyLimits,
    Signal,
    Signals,
    Traffic,
    Unknown,
    UnknownWhy,
)
from shift_operator.prometheus.client import PrometheusClient
from shift_operator.prometheus.contract import Expected, contract_query, contract_sentence, read_contract
from shift_operator.prometheus.query import cluster_query
from shift_operator.prometheus.signals import read_signals
from shift_operator.prometheus.traffic import read_traffic
from shift_operator.prometheus.traffic_query import traffic_query

from .conftest import Recorded, Scraped

CHAT = DeploymentKey("prod", "chat")
LIMITS = LatencyLimits(ttft_seconds=2.0, tpot_seconds=0.4)
WINDOW_SECONDS = 60
SAMPLES = [
    sample
    for family in text_string_to_metric_families(Path(__file__).with_name("engine_busy.txt").read_text())
    for sample in family.samples
    if sample.name.startswith("vllm:")
]
BUSY = {sample.name: sample.value for sample in SAMPLES if "le" not in sample.labels}
BUCKETS = {(sample.name, float(sample.labels["le"])): sample.value for sample in SAMPLES if "le" in sample.labels}
REQUESTS = 6
Value = TypeVar("Value")


def test_a_real_engines_metrics_become_signals_and_traffic(
    scrape: Callable[[Mapping[tuple[str, str, str], Recorded]], Scraped],
) -> None:
    first, second = Recorded(), Recorded()
    client = PrometheusClient(scrape({("prod", "chat", "chat-0"): first, ("prod", "chat", "chat-1"): second}).url)

    # Bursts are looked for at past moments, the first of which comes some seconds after the first rate.
    idle = traffic_when(
        client,
        lambda traffic: (
            known(traffic.finish_rate) == 0 and reporting(traffic) == 2 and known(traffic.span_counts) is not None
        ),
    )
    assert {(one.why, one.detail) for one in idle.unknown()} == {(UnknownWhy.ABSENT, "no request in the window")}
    assert known(idle.kv_capacity_tokens) == 1_048_576
    assert known(idle.ttft) == Attainment(0, 0, 1.0)
    assert signals_of(client).unknown() == ()
    assert contract_of(client, pods=2) == ()

    first.is_busy = True
    busy = traffic_when(client, lambda traffic: known(traffic.output_tokens) is not None)
    assert busy.unknown() == ()
    assert known(busy.prompt_tokens) == pytest.approx(BUSY["vllm:request_prompt_tokens_sum"] / REQUESTS)
    assert known(busy.output_tokens) == pytest.approx(BUSY["vllm:request_generation_tokens_sum"] / REQUESTS)
    hits, queries = BUSY["vllm:prefix_cache_hits_total"], BUSY["vllm:prefix_cache_queries_total"]
    assert known(busy.prefix_hit_ratio) == pytest.approx(hits / queries)
    tpot = "vllm:request_time_per_output_token_seconds"
    assert known(busy.tpot_seconds) == pytest.approx(BUSY[f"{tpot}_sum"] / REQUESTS)
    for signal, histogram, edge in (
        (busy.ttft, "vllm:time_to_first_token_seconds", 1.0),
        (busy.tpot, tpot, 0.4),
    ):
        attained = known(signal)
        assert attained is not None
        assert attained.limit_seconds == edge
        assert attained.within / attained.requests == pytest.approx(BUCKETS[f"{histogram}_bucket", edge] / REQUESTS)
    # The rate is what was counted over what was seen of the window, and the same counts as the attainment's.
    rate, attained = known(busy.finish_rate), known(busy.ttft)
    assert rate is not None
    assert attained is not None
    assert rate * WINDOW_SECONDS == pytest.approx(attained.requests)

    first.answers = False
    alone = traffic_when(client, lambda traffic: reporting(traffic) == 1)
    assert known(alone.finish_rate) == 0
    assert {one.detail for one in alone.unknown()} == {"no request in the window"}
    faults = contract_of(client, pods=2)
    assert {(fault.why, fault.detail) for fault in faults} == {(UnknownWhy.PARTIAL, "1 of 2 ready pods have it")}

    second.answers = False
    none = until(lambda: read_traffic(client.query(traffic_query(WINDOW_SECONDS), time.time()), {}), lambda t: not t)
    assert none == {}
    said = contract_sentence({CHAT: contract_of(client, pods=2)})
    assert said is not None
    assert said.startswith("shift_max_batched_tokens: Absent, of prod/chat; ")
    client.close()


def known(signal: Signal[Value]) -> Value | None:
    return signal.value if isinstance(signal, Known) else None


def reporting(traffic: Traffic) -> int | None:
    return known(traffic.pods_reporting)


def traffic_when(client: PrometheusClient, done: Callable[[Traffic], bool]) -> Traffic:
    """The first traffic of the deployment that satisfies `done`; a scrape is due every second."""

    def read() -> Mapping[DeploymentKey, Traffic]:
        return read_traffic(client.query(traffic_query(WINDOW_SECONDS, [LIMITS]), time.time()), {CHAT: LIMITS})

    return until(read, lambda traffic: CHAT in traffic and done(traffic[CHAT]))[CHAT]


def until(read: Callable[[], Value], done: Callable[[Value], bool]) -> Value:
    deadline = time.monotonic() + 60
    while True:
        answer = read()
        if done(answer):
            return answer
        assert time.monotonic() < deadline, f"not within 60 s; last: {answer}"
        time.sleep(0.3)


def signals_of(client: PrometheusClient) -> Signals:
    return read_signals(client.query(cluster_query(WINDOW_SECONDS), time.time()))[CHAT]


def contract_of(client: PrometheusClient, pods: int) -> tuple[Unknown, ...]:
    result = client.query(contract_query(), time.time())
    return read_contract(result, {CHAT: Expected(pods)}, max_age_seconds=60)[CHAT]
