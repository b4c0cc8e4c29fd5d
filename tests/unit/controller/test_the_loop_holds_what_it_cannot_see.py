"""The decision loop, on virtual time and without a Prometheus: what a look brings is given."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import pytest
from shift_operator.api.schedule import Degree
from shift_operator.api.shiftdeployment import ShiftDeployment
from shift_operator.api.signals import (
    CurvePoint,
    DeploymentKey,
    Known,
    Signals,
    SizeBucket,
    Span,
    UnknownWhy,
    nothing_known,
)
from shift_operator.api.status import DecisionOutcome
from shift_operator.control.reasons import ThresholdReason
from shift_operator.controller.decision_loop import DecisionLoop, Look, Subject
from shift_operator.controller.decisions import Decisions
from shift_operator.controller.metrics import Metrics

OnVirtualTime = Callable[[Coroutine[Any, Any, Any]], Any]
CHAT = DeploymentKey("prod", "chat")
EPOCH = 1_000_000.0
TENSOR, SEQUENCE = Degree(sequence=1, tensor=2), Degree(sequence=2, tensor=1)


def a_deployment(**shift: Any) -> ShiftDeployment:
    return ShiftDeployment.from_body(
        {
            "metadata": {"namespace": "prod", "name": "chat", "uid": "u"},
            "spec": {
                "model": {"uri": "file:///models/tiny"},
                "engine": {"image": "engine:1"},
                "parallelism": {"gpusPerReplica": 2, "degree": {"sequence": 2, "tensor": 1}},
                "shift": {"mode": "Auto", "thresholdTokens": 16} | shift,
            },
        }
    )


def signals_that_favour(crossover: int, at: float) -> Signals:
    """1,000 steps of up to 64 tokens; below `crossover` tokens tensor parallelism is twice as fast, else half."""

    def known(value: Any) -> Known[Any]:
        return Known(value, at, "a test")

    points = (1, crossover - 1, crossover + 1, 2048)
    slow, fast = 0.02, 0.01
    return Signals(
        step_sizes=known((SizeBucket(32, 64, 1000.0), SizeBucket(64, 2048, 0.0))),
        steps=known({TENSOR: 0.0, SEQUENCE: 1000.0}),
        step_time=known(
            {
                TENSOR: tuple(CurvePoint(n, fast if n < crossover else slow) for n in points),
                SEQUENCE: tuple(CurvePoint(n, slow if n < crossover else fast) for n in points),
            }
        ),
        max_batched_tokens=known(2048),
        pods_reporting=known(1),
        threshold_tokens=known(Span(16, 16)),
        generation=known(Span(1, 1)),
        running=known(1.0),
        waiting=known(0.0),
    )


class Scene:
    """A loop over one deployment; `news` are the keys that it enqueued, with the time of each."""

    def __init__(self, look: Look | None, deployment: ShiftDeployment, interval_seconds: float = 15.0) -> None:
        self.decisions = Decisions()
        self.deployment = deployment
        self.metrics = Metrics()
        self.news: list[float] = []
        self.loop = DecisionLoop(
            look,
            lambda: [Subject(CHAT, self.deployment, ready_pods=1)],
            self.decisions,
            lambda key: self.news.append(now()),
            self.metrics,
            interval_seconds=interval_seconds,
            clock=lambda: EPOCH + now(),
        )

    async def run_for(self, seconds: float) -> None:
        """As the process runs it: one look, then one per interval."""
        await self.loop.tick()
        running = asyncio.create_task(self.loop.run())
        await asyncio.sleep(seconds)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    @property
    def standing(self) -> Any:
        return self.decisions.of(CHAT, self.deployment)


def now() -> float:
    return asyncio.get_running_loop().time()


def test_a_decision_is_made_once_and_told_once(on_virtual_time: OnVirtualTime) -> None:
    looks = []

    async def look(at: float) -> Mapping[DeploymentKey, Signals]:
        looks.append(at)
        return {CHAT: signals_that_favour(512, at)}

    async def scenario() -> None:
        scene = Scene(look, a_deployment())
        await scene.run_for(100)
        assert looks == [EPOCH + 15 * n for n in range(7)]
        assert scene.standing.threshold_tokens == 512
        records = scene.standing.records
        assert [(r.from_, r.to, r.reason, r.outcome) for r in records] == [
            ("16", "512", ThresholdReason.LESS_STEP_TIME, DecisionOutcome.PENDING),
            ("512", "512", ThresholdReason.BEST_ALREADY, DecisionOutcome.HELD),
        ]
        assert scene.news == [0, 15], "a hold for the same reason is no news"

    on_virtual_time(scenario())


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (ConnectionError("prometheus:9090 refused"), ThresholdReason.PROMETHEUS_UNREACHABLE),
        ({}, ThresholdReason.SIGNALS_MISSING),
        ({CHAT: signals_that_favour(512, EPOCH - 300)}, ThresholdReason.SIGNALS_STALE),
        ({CHAT: nothing_known(UnknownWhy.PARTIAL, "gaps")}, ThresholdReason.SIGNALS_PARTIAL),
    ],
)
def test_what_cannot_be_seen_holds_the_threshold(
    on_virtual_time: OnVirtualTime, answer: Mapping[DeploymentKey, Signals] | Exception, reason: ThresholdReason
) -> None:
    async def look(at: float) -> Mapping[DeploymentKey, Signals]:
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def scenario() -> None:
        scene = Scene(look, a_deployment())
        await scene.run_for(60)
        assert scene.standing.threshold_tokens == 16
        assert scene.standing.decision.reason is reason
        assert scene.news == [0]

    on_virtual_time(scenario())


def test_without_a_prometheus_everything_is_unknown_and_says_how_to_change_that(on_virtual_time: OnVirtualTime) -> None:
    async def scenario() -> None:
        scene = Scene(None, a_deployment())
        await scene.run_for(60)
        unknown = scene.standing.signals.unknown()
        assert {signal.why for signal in unknown} == {UnknownWhy.UNREACHABLE}
        assert "set --prometheus-url" in unknown[0].detail

    on_virtual_time(scenario())


def test_outside_mode_auto_the_threshold_is_the_specs_and_signals_are_kept(on_virtual_time: OnVirtualTime) -> None:
    async def look(at: float) -> Mapping[DeploymentKey, Signals]:
        return {CHAT: signals_that_favour(512, at)}

    async def scenario() -> None:
        scene = Scene(look, a_deployment(mode="Fixed", thresholdTokens=128))
        await scene.run_for(60)
        assert scene.standing.threshold_tokens == 128
        assert scene.standing.decision is None
        assert scene.standing.signals.pods_reporting.value == 1
        assert scene.news == [0]
        scene.deployment = a_deployment(thresholdTokens=16)
        assert scene.standing.threshold_tokens == 128, "Auto begins where Fixed left it"

    on_virtual_time(scenario())


def test_a_slow_look_leaves_ticks_out_and_keeps_the_beat(on_virtual_time: OnVirtualTime) -> None:
    looks = []

    async def look(at: float) -> Mapping[DeploymentKey, Signals]:
        looks.append(at - EPOCH)
        await asyncio.sleep(20 if len(looks) == 2 else 0)
        return {}

    async def scenario() -> None:
        await Scene(look, a_deployment()).run_for(80)
        assert looks == [0, 15, 45, 60, 75]

    on_virtual_time(scenario())


def test_a_bug_in_one_decision_stops_neither_the_loop_nor_the_others(
    on_virtual_time: OnVirtualTime, caplog: pytest.LogCaptureFixture
) -> None:
    other = DeploymentKey("prod", "other")

    async def look(at: float) -> Mapping[DeploymentKey, Signals]:
        return {CHAT: "no signals at all", other: signals_that_favour(512, at)}  # type: ignore[dict-item]

    async def scenario() -> None:
        decisions = Decisions()
        subjects = [Subject(key, a_deployment(), ready_pods=1) for key in (CHAT, other)]
        loop = DecisionLoop(
            look, lambda: subjects, decisions, lambda key: None, Metrics(), interval_seconds=15, clock=lambda: EPOCH
        )
        await loop.tick()
        assert decisions.of(other, a_deployment()).threshold_tokens == 512
        assert decisions.of(CHAT, a_deployment()).threshold_tokens == 16

    on_virtual_time(scenario())
    assert "deciding failed" in caplog.text
