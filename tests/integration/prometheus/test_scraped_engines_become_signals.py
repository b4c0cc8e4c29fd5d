"""From engines' metrics through a real Prometheus, the real query and the real client to signals."""

import time
from collections.abc import Callable, Mapping

import pytest
from shift_operator.api.schedule import Degree
from shift_operator.api.signals import DeploymentKey, Known, Signals, Span
from shift_operator.prometheus.client import PrometheusClient
from shift_operator.prometheus.errors import BadAnswer
from shift_operator.prometheus.query import cluster_query
from shift_operator.prometheus.signals import read_signals

from .conftest import Engine, Scraped

Read = Mapping[DeploymentKey, Signals]
CHAT, OTHER_CHAT = DeploymentKey("prod", "chat"), DeploymentKey("dev", "chat")
TENSOR, SEQUENCE = Degree(sequence=1, tensor=2), Degree(sequence=2, tensor=1)
QUERY = cluster_query(window_seconds=60)


def read_until(client: PrometheusClient, done: Callable[[Read], bool]) -> Read:
    """The first signals that satisfy `done`; a scrape is due every second."""
    deadline = time.monotonic() + 60
    while True:
        signals = read_signals(client.query(QUERY, time.time()))
        if done(signals):
            return signals
        assert time.monotonic() < deadline, f"not within 60 s; last: {signals}"
        time.sleep(0.3)


def pods_report(signals: Read, key: DeploymentKey, pods: int) -> bool:
    return (
        key in signals and isinstance(signals[key].pods_reporting, Known) and signals[key].pods_reporting.value == pods
    )


def steps_of(signals: Read, key: DeploymentKey) -> float:
    steps = signals[key].steps if key in signals else None
    return sum(steps.value.values()) if isinstance(steps, Known) else 0.0


def test_signals_are_what_the_engines_did(
    scrape: Callable[[Mapping[tuple[str, str, str], Engine]], Scraped],
) -> None:
    first, second, other = Engine(), Engine(max_batched_tokens=1024), Engine(max_batched_tokens=4096)
    second.generation.set(2)
    second.threshold.set(256)
    first.running.set(3)
    second.running.set(4)
    second.waiting.set(1)
    engines = {("prod", "chat", "chat-0"): first, ("prod", "chat", "chat-1"): second, ("dev", "chat", "chat-0"): other}
    client = PrometheusClient(scrape(engines).url)
    client.check()

    # A step counts once two samples lie around it.
    read_until(client, lambda s: pods_report(s, CHAT, 2) and pods_report(s, OTHER_CHAT, 1) and steps_known(s))
    first.run(600, 1, 2, tokens=8)
    second.run(300, 1, 2, tokens=8)
    second.run(100, 2, 1, tokens=700)
    signals = read_until(client, lambda s: tensor_steps_per_sequence_step(s) == pytest.approx(9, rel=0.1))

    chat = signals[CHAT]
    assert chat.unknown() == ()
    assert isinstance(chat.step_sizes, Known)
    counts = {bucket.up_to: bucket.steps for bucket in chat.step_sizes.value if bucket.steps > 1e-6}
    assert set(counts) == {8, 768}
    assert counts[8] / counts[768] == pytest.approx(9, rel=0.1)
    assert isinstance(chat.steps, Known)
    assert sum(counts.values()) == pytest.approx(sum(chat.steps.value.values()))
    assert set(chat.steps.value) == {TENSOR, SEQUENCE}
    assert isinstance(chat.step_time, Known)
    assert [point.tokens for point in chat.step_time.value[SEQUENCE]] == [1, 64, 1024]
    assert chat.step_time.value[TENSOR][1].seconds == pytest.approx(0.004 + 64 * 10e-6)
    assert isinstance(chat.max_batched_tokens, Known)
    assert chat.max_batched_tokens.value == 1024
    assert isinstance(chat.threshold_tokens, Known)
    assert chat.threshold_tokens.value == Span(256, 512)
    assert isinstance(chat.generation, Known)
    assert chat.generation.value == Span(1, 2)
    assert isinstance(chat.running, Known)
    assert chat.running.value == 7
    assert isinstance(chat.waiting, Known)
    assert chat.waiting.value == 1
    assert 0 <= chat.running.age(time.time()) < 30

    idle = signals[OTHER_CHAT]
    assert steps_of(signals, OTHER_CHAT) == 0
    assert isinstance(idle.steps, Known), "idle is known to be 0"

    second.answers = False
    alone = read_until(client, lambda s: pods_report(s, CHAT, 1))[CHAT]
    assert isinstance(alone.step_sizes, Known)
    assert {bucket.up_to for bucket in alone.step_sizes.value if bucket.steps > 1e-6} == {8}
    assert isinstance(alone.max_batched_tokens, Known)
    assert alone.max_batched_tokens.value == 2048

    first.answers = False
    gone = read_until(client, lambda s: CHAT not in s)
    assert OTHER_CHAT in gone

    with pytest.raises(BadAnswer, match=r"refused the query with 400: .*parse error"):
        client.query("sum(", time.time())
    client.close()


def steps_known(signals: Read) -> bool:
    return all(isinstance(of.step_sizes, Known) for of in signals.values())


def tensor_steps_per_sequence_step(signals: Read) -> float:
    """0 until both kinds are in.

    Prometheus extrapolates each pod's increase over the edges of what it saw of that pod: with two samples up to
    three times, with ten by a fifth. The pods' scrapes are apart, so the proportion of what two pods did comes right
    only with the samples.
    """
    steps = signals[CHAT].steps
    if not isinstance(steps, Known) or not steps.value.get(SEQUENCE):
        return 0.0
    return steps.value[TENSOR] / steps.value[SEQUENCE]
