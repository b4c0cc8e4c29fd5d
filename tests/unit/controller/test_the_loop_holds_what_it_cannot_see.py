"""The decision loop, on virtual time and without a Prometheus: what a look brings is given."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from typing import Any

import pytest
from shift_operator.api.policy import PolicyMode
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
    nothing_known_of_traffic,
)
from shift_operator.api.status import DecisionOutcome
from shift_operator.control.inputs import Observed, PolicySettings
from shift_operator.control.memory import SHORT_SECONDS
from shift_operator.control.reasons import ThresholdReason
from shift_operator.controller.decision_loop import DecisionLoop
from shift_operator.controller.decisions import Decisions
from shift_operator.controller.metrics import Metrics
from shift_operator.controller.policies import BUILT_IN, PolicyInForce
from shift_operator.controller.prometheus_signals import Look, Sighting, Source
from shift_operator.controller.subjects import Subject
from shift_operator.planning.policy import Guided
from shift_operator.planning.policy_status import PolicyObserved

OnVirtualTime = Callable[[Coroutine[Any, Any, Any]], Any]
CHAT, BATCH = DeploymentKey("prod", "chat"), DeploymentKey("prod", "batch")
SOURCE = Source("http://prometheus:9090")
READY = {
    "metadata": {"name": "chat-1"},
    "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
}
EPOCH = 1_000_000.0
TENSOR, SEQUENCE = Degree(sequence=1, tensor=2), Degree(sequence=2, tensor=1)


def a_deployment(name: str = "chat", **shift: Any) -> ShiftDeployment:
    return ShiftDeployment.from_body(
        {
            "metadata": {"namespace": "prod", "name": name, "uid": "u"},
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
        max_sequences=known(256),
        pods_reporting=known(1),
        threshold_tokens=known(Span(16, 16)),
        generation=known(Span(1, 1)),
        running=known(1.0),
        waiting=known(0.0),
    )


class Looks:
    """Gives each policy's source its look; `closed` has the policies that are no longer asked for."""

    def __init__(self, by_url: Mapping[str, Look]) -> None:
        self.by_url = by_url
        self.kept: tuple[str, ...] = ()

    def of(self, policy: str, source: Source) -> Look:
        return self.by_url[source.url]

    def keep(self, policies: tuple[str, ...]) -> None:
        self.kept = policies


def seen(signals: Signals) -> Observed:
    return Observed(signals, nothing_known_of_traffic(UnknownWhy.ABSENT, "not asked"))


def built_in(interval_seconds: float = 15.0, *, source: Source | None = SOURCE) -> PolicyInForce:
    return PolicyInForce(BUILT_IN, PolicySettings(), interval_seconds, source)


class Scene:
    """A loop over some deployments; `news` are the times at which it enqueued `chat`."""

    def __init__(self, look: Look | None, *deployments: ShiftDeployment) -> None:
        self.decisions = Decisions()
        self.deployments = list(deployments) or [a_deployment()]
        self.policy_of: dict[DeploymentKey, str | None] = {}
        self.metrics = Metrics()
        self.news: list[float] = []
        self.reports: dict[str, PolicyObserved] = {}
        self.policies = {BUILT_IN: built_in(source=SOURCE if look else None)}
        self.looks = Looks({SOURCE.url: look} if look else {})
        self.loop = DecisionLoop(
            self.looks,
            lambda: dict(self.policies),
            self.subjects,
            self.decisions,
            self.changed,
            self.report,
            self.metrics,
            clock=lambda: EPOCH + now(),
        )

    def subjects(self) -> list[Subject]:
        keys = [DeploymentKey(d.namespace, d.name) for d in self.deployments]
        return [
            Subject(key, deployment, Guided(self.policy_of.get(key)), pods=[READY])
            for key, deployment in zip(keys, self.deployments, strict=True)
        ]

    async def report(self, policy: str, observed: PolicyObserved) -> None:
        self.reports[policy] = observed

    def changed(self, key: DeploymentKey) -> None:
        if key == CHAT:
            self.news.append(now())

    async def run_for(self, seconds: float) -> None:
        """As the process runs it: one look, then one per interval."""
        await self.loop.tick()
        running = asyncio.create_task(self.loop.run())
        await asyncio.sleep(seconds)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    @property
    def standing(self) -> Any:
        return self.decisions.of(CHAT, self.deployments[0])


def now() -> float:
    return asyncio.get_running_loop().time()


def test_a_decision_is_made_once_and_told_once(on_virtual_time: OnVirtualTime) -> None:
    looks = []

    async def look(at: float, asked: Any) -> Sighting:
        looks.append(at)
        return Sighting({CHAT: seen(signals_that_favour(512, at))})

    async def scenario() -> None:
        scene = Scene(look)
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
        ({CHAT: seen(signals_that_favour(512, EPOCH - 300))}, ThresholdReason.SIGNALS_STALE),
        ({CHAT: seen(nothing_known(UnknownWhy.PARTIAL, "gaps"))}, ThresholdReason.SIGNALS_PARTIAL),
    ],
)
def test_what_cannot_be_seen_holds_the_threshold(
    on_virtual_time: OnVirtualTime, answer: Mapping[DeploymentKey, Observed] | Exception, reason: ThresholdReason
) -> None:
    async def look(at: float, asked: Any) -> Sighting:
        if isinstance(answer, Exception):
            raise answer
        return Sighting(answer)

    async def scenario() -> None:
        scene = Scene(look)
        await scene.run_for(60)
        assert scene.standing.threshold_tokens == 16
        assert scene.standing.made.threshold.reason is reason
        assert scene.news == [0, SHORT_SECONDS], "then since when it is unknown, for the next process"

    on_virtual_time(scenario())


def test_without_a_prometheus_everything_is_unknown_and_says_how_to_change_that(on_virtual_time: OnVirtualTime) -> None:
    async def scenario() -> None:
        scene = Scene(None)
        await scene.run_for(60)
        unknown = scene.standing.observed.signals.unknown()
        assert {signal.why for signal in unknown} == {UnknownWhy.UNREACHABLE}
        assert "set --prometheus-url" in unknown[0].detail

    on_virtual_time(scenario())


def test_outside_mode_auto_the_threshold_is_the_specs_and_signals_are_kept(on_virtual_time: OnVirtualTime) -> None:
    async def look(at: float, asked: Any) -> Sighting:
        return Sighting({CHAT: seen(signals_that_favour(512, at))})

    async def scenario() -> None:
        scene = Scene(look, a_deployment(mode="Fixed", thresholdTokens=128))
        await scene.run_for(60)
        assert scene.standing.threshold_tokens == 128
        assert scene.standing.made.threshold is None
        assert scene.standing.observed.signals.pods_reporting.value == 1
        assert scene.news == [0]
        scene.deployments = [a_deployment(thresholdTokens=16)]
        assert scene.standing.threshold_tokens == 128, "Auto begins where Fixed left it"

    on_virtual_time(scenario())


def test_a_fallback_undoes_nothing_while_the_deployment_is_suspended(on_virtual_time: OnVirtualTime) -> None:
    answer = True

    async def look(at: float, asked: Any) -> Sighting:
        return Sighting({CHAT: seen(signals_that_favour(512, at))} if answer else {})

    async def scenario() -> None:
        nonlocal answer
        scene = Scene(look)
        scene.policies[BUILT_IN] = replace(built_in(), settings=PolicySettings(fallback_after_seconds=60.0))
        await scene.run_for(20)
        assert scene.standing.threshold_tokens == 512

        answer, (serves,) = False, scene.deployments
        scene.deployments = [serves.model_copy(update={"spec": serves.spec.model_copy(update={"suspend": True})})]
        await scene.run_for(600)
        assert scene.standing.threshold_tokens == 512

        scene.deployments = [serves]
        await scene.run_for(40)
        assert scene.standing.threshold_tokens == 512, "back on, the signals have not been missing for long"
        await scene.run_for(60)
        assert scene.standing.threshold_tokens == 16

    on_virtual_time(scenario())


def test_a_slow_look_leaves_ticks_out_and_keeps_the_beat(on_virtual_time: OnVirtualTime) -> None:
    looks = []

    async def look(at: float, asked: Any) -> Sighting:
        looks.append(at - EPOCH)
        await asyncio.sleep(20 if len(looks) == 2 else 0)
        return Sighting({})

    async def scenario() -> None:
        await Scene(look).run_for(80)
        assert looks == [0, 15, 45, 60, 75]

    on_virtual_time(scenario())


def test_a_bug_in_one_decision_stops_neither_the_loop_nor_the_others(
    on_virtual_time: OnVirtualTime, caplog: pytest.LogCaptureFixture
) -> None:

    async def look(at: float, asked: Any) -> Sighting:
        odd: Any = "no signals at all"
        return Sighting({CHAT: odd, BATCH: seen(signals_that_favour(512, at))})

    async def scenario() -> None:
        scene = Scene(look, a_deployment(), a_deployment("batch"))
        await scene.loop.tick()
        assert scene.decisions.of(BATCH, scene.deployments[1]).threshold_tokens == 512
        assert scene.standing.threshold_tokens == 16

    on_virtual_time(scenario())
    assert "deciding failed" in caplog.text


def test_a_policy_whose_prometheus_hangs_delays_no_other(on_virtual_time: OnVirtualTime) -> None:
    looks: list[float] = []

    async def hangs(at: float, asked: Any) -> Sighting:
        await asyncio.sleep(6)
        raise TimeoutError("query gave no answer within 6 s")

    async def answers(at: float, asked: Any) -> Sighting:
        looks.append(at - EPOCH)
        return Sighting({key: seen(signals_that_favour(512, at)) for key in (CHAT, BATCH)})

    async def scenario() -> None:
        scene = Scene(answers, a_deployment(), a_deployment("batch"))
        scene.looks.by_url = {SOURCE.url: answers, "http://other": hangs}
        scene.policy_of = {BATCH: "batch"}
        scene.policies["batch"] = PolicyInForce("batch", PolicySettings(), 5.0, Source("http://other"))
        await scene.run_for(40)
        assert looks == [0, 21, 36], "the first look of all policies is one, then each keeps its own beat"
        assert scene.standing.threshold_tokens == 512
        held = scene.decisions.of(BATCH, scene.deployments[1])
        assert held.threshold_tokens == 16
        assert held.made is not None
        assert held.made.threshold is not None
        assert held.made.threshold.reason is ThresholdReason.PROMETHEUS_UNREACHABLE
        told = PolicyObserved(deployments=1, ready_pods=1, gpus_in_use=2)
        assert scene.reports[BUILT_IN] == told
        assert scene.reports["batch"] == replace(told, query_error="query gave no answer within 6 s")

    on_virtual_time(scenario())


def test_a_policy_takes_effect_when_it_comes_changes_and_goes(on_virtual_time: OnVirtualTime) -> None:
    async def look(at: float, asked: Any) -> Sighting:
        return Sighting({CHAT: seen(signals_that_favour(512, at))})

    async def scenario() -> None:
        scene = Scene(look, a_deployment(mode="Fixed"))
        await scene.loop.tick()
        running = asyncio.create_task(scene.loop.run())
        await asyncio.sleep(1)
        scene.deployments = [a_deployment()]
        scene.policy_of = {CHAT: "careful"}
        careful = PolicyInForce("careful", PolicySettings(threshold_mode=PolicyMode.ADVISORY), 3600.0, SOURCE)
        scene.policies["careful"] = careful
        scene.loop.policies_changed()
        await asyncio.sleep(1)
        assert scene.standing.threshold_tokens == 16
        assert scene.standing.records[-1].outcome == DecisionOutcome.ADVISED
        assert scene.looks.kept == (BUILT_IN, "careful")

        scene.policies["careful"] = replace(careful, settings=PolicySettings())
        scene.loop.policies_changed()
        await asyncio.sleep(1)
        assert scene.standing.threshold_tokens == 512, "an edit does not wait for an hour"

        del scene.policies["careful"]
        scene.loop.policies_changed()
        await asyncio.sleep(1)
        assert scene.looks.kept == (BUILT_IN,)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    on_virtual_time(scenario())
