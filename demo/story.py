"""The demo's seven steps, in order. Each does what a user would do and waits until the cluster says that it is done."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from demo.cluster import LocalCluster
from demo.commands import run
from demo.environment import Environment
from demo.leftovers import processes_of
from demo.narration import Narration, Step, StepFailed, until
from demo.reference import stock_tokens
from demo.traffic import COMPARED, Client, Prompt, Tally, ask, load

STEPS = 7
NAME = "chat"
OPERATOR_NAMESPACE = "shift-operator"
CHILDREN = ("deployment/chat", "service/chat", "configmap/chat-schedule", "serviceaccount/chat")
# The load of step 6, and how long the threshold may take to settle after it.
LOAD_SECONDS = 60.0
PHASE_SECONDS = 10.0
SETTLE_SECONDS = 60.0
# The operator decides every so many seconds here; the chart's default suits a cluster with slower scrapes.
DECISION_SECONDS = 5


@dataclass
class Outcome:
    """What the last table shows; every figure was read from the cluster or counted by a client."""

    threshold_before: int = 0
    threshold_after: int = 0
    generation: int = 0
    ranks_confirmed: int = 0
    ranks: int = 0
    steps: dict[str, int] = field(default_factory=dict)
    decisions: list[dict[str, Any]] = field(default_factory=list)
    requests: int = 0
    failed_requests: int = 0
    tokens: int = 0
    compared: int = 0
    equal: int = 0
    seconds: dict[str, float] = field(default_factory=dict)


class Demo:
    """Runs the story. `keep` leaves the cluster up after step 6; otherwise it goes down whatever happens."""

    def __init__(self, environment: Environment, narration: Narration, *, keep: bool) -> None:
        self._environment = environment
        self._narration = narration
        self._keep = keep
        self.cluster = LocalCluster(environment)
        self._tally = Tally()
        self.outcome = Outcome(seconds=narration.seconds)

    async def run(self) -> Outcome:
        """Raises StepFailed at the first step that does not hold; the cluster is down by then unless `keep`."""
        try:
            async with self._narration.step(
                "set-up: binaries, a tiny random model, stock vLLM's tokens for it"
            ) as step:
                reference = await self._set_up(step)
            async with self._narration.step(
                "the local cluster: control plane, kubelet with 8 GPUs, Prometheus"
            ) as step:
                await self.cluster.up(step)
            async with self._narration.step("helm install charts/shift-operator") as step:
                await self._install_operator(step)
            async with self._narration.step("kubectl apply -f examples/shiftdeployment.yaml, until Available") as step:
                await self._apply(step)
            async with self._narration.step("a completion and a chat completion, streamed through the Service") as step:
                await self._first_tokens(step)
            async with self._narration.step("load whose step sizes change, until the threshold has moved") as step:
                await self._shift(step)
                self._compare(reference)
            if not self._keep:
                async with self._narration.step("delete the ShiftDeployment, the operator and the cluster") as step:
                    await self._tear_down(step)
            return self.outcome
        finally:
            if not self._keep:
                await asyncio.shield(self.cluster.down())

    async def _set_up(self, step: Step) -> dict[Prompt, list[int]]:
        await self.cluster.build(step)
        if not (self._environment.model / "config.json").exists():
            await run(
                self._environment.engine_python,
                self._environment.checkout / "examples" / "tiny_model.py",
                self._environment.model,
                part="tiny model",
                variables=self._environment.variables(),
                within=120,
                step=step,
            )
        step.say(f"model: {self._environment.model} (random weights, a real tokenizer)")
        reference = await stock_tokens(COMPARED, self._environment, step)
        tokens = sum(map(len, reference.values()))
        step.say(f"stock vLLM, TP=2: {tokens} greedy tokens for {len(reference)} prompts, kept for comparison")
        return reference

    async def _install_operator(self, step: Step) -> None:
        chart = self._environment.checkout / "charts" / "shift-operator"
        step.now = "helm waits for the operator to be ready"
        await self.cluster.helm(
            "install", "shift-operator", str(chart), "--namespace", OPERATOR_NAMESPACE, "--create-namespace",
            "--set", f"prometheus.url={self.cluster.prometheus_url}",
            "--set", f"decisionIntervalSeconds={DECISION_SECONDS}",
            "--wait", "--timeout", "90s", step=step,
        )  # fmt: skip
        step.say(await self.cluster.kubectl("get", "pods", "-n", OPERATOR_NAMESPACE))

    async def _apply(self, step: Step) -> None:
        step.say(
            await self.cluster.kubectl(
                "apply",
                "--validate=strict",
                "-f",
                str(self._environment.checkout / "examples" / "shiftdeployment.yaml"),
            )
        )

        async def unavailable() -> str | None:
            deployment = await self.cluster.get("shiftdeployment", NAME)
            conditions = {c["type"]: c for c in deployment.get("status", {}).get("conditions", [])}
            if conditions.get("Available", {}).get("status") == "True":
                return None
            degraded = conditions.get("Degraded", {})
            if degraded.get("status") == "True":
                raise StepFailed("engine", degraded.get("message", "degraded"), await self._engine_log())
            shown = conditions.get("Progressing") or conditions.get("Available") or {}
            return f"waiting for Available: {shown.get('message', 'no status yet')}"

        try:
            await until(unavailable, step=step, part="engine", within=240, every=1)
        except StepFailed as failure:
            raise StepFailed(failure.part, failure.why, failure.log or await self._engine_log()) from None
        status = (await self.cluster.get("shiftdeployment", NAME))["status"]
        self.outcome.threshold_before = status["shift"]["desired"]["thresholdTokens"]
        step.say(await self.cluster.kubectl("get", "shiftdeployment", NAME))

    async def _engine_log(self) -> str:
        return await self.cluster.kubectl("logs", f"deployment/{NAME}", "--tail", "20")

    async def _operator_log(self) -> str:
        return await self.cluster.kubectl("logs", "deployment/shift-operator", "-n", OPERATOR_NAMESPACE, "--tail", "20")

    async def _url(self) -> str:
        service = await self.cluster.get("service", NAME)
        return f"http://{service['spec']['clusterIP']}:{service['spec']['ports'][0]['port']}"

    async def _first_tokens(self, step: Step) -> None:
        url = await self._url()
        async with Client(url, await self._served_model()) as client:
            try:
                step.now = "the first request warms the engine"
                completion = "".join([piece async for piece in client.completion_text("shift parallel serves", 24)])
                step.say(f"POST {url}/v1/completions       shift parallel serves ->{_one_line(completion)}")
                chat = "".join([piece async for piece in client.chat_text("Which degree for the next step?", 24)])
                step.say(f"POST {url}/v1/chat/completions  Which degree for the next step? -> {_one_line(chat)}")
            except (aiohttp.ClientError, TimeoutError) as error:
                raise StepFailed(
                    "engine", f"no tokens through the Service: {error}", await self._engine_log()
                ) from error
        if not completion or not chat:
            raise StepFailed("engine", "an answer without tokens", await self._engine_log())

    async def _served_model(self) -> str:
        model = (await self.cluster.get("shiftdeployment", NAME))["spec"]["model"]
        return str(model.get("name") or NAME)

    async def _shift(self, step: Step) -> None:
        def shown(text: str) -> None:
            step.now = text

        async with Client(await self._url(), await self._served_model()) as client:
            compared = asyncio.gather(*(ask(client, self._tally, prompt) for prompt in COMPARED))
            await load(client, self._tally, seconds=LOAD_SECONDS, phase_seconds=PHASE_SECONDS, shown=shown)
            await compared
            background = asyncio.create_task(
                load(
                    client,
                    self._tally,
                    seconds=SETTLE_SECONDS,
                    phase_seconds=PHASE_SECONDS / 2,
                    shown=lambda text: None,
                )
            )
            try:
                try:
                    await until(self._unsettled, step=step, part="threshold", within=SETTLE_SECONDS, every=1)
                except StepFailed:
                    if not await self._held_for_good_reason():
                        raise
                    await self._narrow_the_range(step)
                    await until(self._unsettled, step=step, part="threshold", within=SETTLE_SECONDS, every=1)
            except StepFailed as failure:
                raise StepFailed(failure.part, failure.why, failure.log or await self._operator_log()) from None
            finally:
                background.cancel()
                await asyncio.gather(background, return_exceptions=True)
            # Once more after the threshold has moved: the same prompts, other modes, the same tokens.
            await asyncio.gather(*(ask(client, self._tally, prompt) for prompt in COMPARED))
        step.say(await self.cluster.kubectl("get", "shiftdeployment", NAME, "-o", "wide"))
        for decision in self.outcome.decisions:
            moved = f"threshold {decision['from']} -> {decision['to']}"
            step.say(f"{decision['time']}  {moved}  {decision['reason']}: {decision.get('message', '')}")
        if self._tally.failures:
            raise StepFailed(
                "load",
                f"{len(self._tally.failures)} of {self._tally.requests} requests failed: {self._tally.failures[0]}",
                await self._engine_log(),
            )

    async def _held_for_good_reason(self) -> bool:
        """Whether the law holds because this machine's curves cross near the threshold that the example starts with."""
        decisions = (await self.cluster.get("shiftdeployment", NAME))["status"].get("decisions", [])
        return bool(decisions) and decisions[-1]["reason"] in ("BestAlready", "GainTooSmall")

    async def _narrow_the_range(self, step: Step) -> None:
        """A user's way to move the threshold: a range that it does not lie in."""
        step.say("the law holds: the threshold is as good as any here. A narrower range moves it all the same:")
        shift = {"thresholdTokens": 512, "thresholdRange": {"min": 512}}
        patch = json.dumps({"spec": {"shift": shift}})
        step.say(await self.cluster.kubectl("patch", "shiftdeployment", NAME, "--type=merge", f"--patch={patch}"))

    async def _unsettled(self) -> str | None:
        """What is missing: both modes in Prometheus, a moved threshold in status and ConfigMap, all ranks."""
        outcome = self.outcome
        for degree in ((1, 2), (2, 1)):
            sequence, tensor = degree
            selector = f'deployment="{NAME}",sequence="{sequence}",tensor="{tensor}"'
            outcome.steps[f"{sequence}x{tensor}"] = int(
                await self.cluster.query(f"sum(shift_steps_total{{{selector}}})") or 0
            )
            if outcome.steps[f"{sequence}x{tensor}"] == 0:
                return f"no step ran at degree {sequence}x{tensor} (sequence x tensor) yet"
        status = (await self.cluster.get("shiftdeployment", NAME))["status"]
        shift = status["shift"]
        outcome.threshold_after = shift["desired"]["thresholdTokens"]
        if outcome.threshold_after == outcome.threshold_before:
            conditions = {c["type"]: c for c in status["conditions"]}
            metrics = conditions.get("MetricsAvailable", {})
            why = f"{metrics.get('reason')}: {metrics.get('message')}"
            return f"the threshold is still {outcome.threshold_before} (metrics: {why})"
        outcome.decisions = [
            d for d in status.get("decisions", []) if d["kind"] == "Threshold" and d["from"] != d["to"]
        ]
        schedule = json.loads((await self.cluster.get("configmap", f"{NAME}-schedule"))["data"]["schedule.json"])
        outcome.generation = schedule["generation"]
        in_file = schedule["ranges"][0].get("upToTokens")
        if in_file != outcome.threshold_after:
            return f"the ConfigMap has threshold {in_file}, the status {outcome.threshold_after}"
        ranks = await self._ranks()
        outcome.ranks = len(ranks)
        outcome.ranks_confirmed = sum(rank["generation"] == outcome.generation for rank in ranks)
        if not ranks or outcome.ranks_confirmed < outcome.ranks:
            return f"{outcome.ranks_confirmed} of {outcome.ranks} ranks confirm generation {outcome.generation}"
        if shift.get("applied", {}).get("thresholdTokens") != outcome.threshold_after:
            return f"the status does not show threshold {outcome.threshold_after} as applied yet"
        return None

    async def _ranks(self) -> list[dict[str, Any]]:
        """Every rank's own answer, asked from each ready pod directly."""
        pods = (await self.cluster.get("pods", "-l", f"shiftparallel.io/deployment={NAME}"))["items"]
        ranks: list[dict[str, Any]] = []
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
            for pod in pods:
                async with session.get(f"http://{pod['status']['podIP']}:8000/shift") as response:
                    ranks += (await response.json())["ranks"]
        return ranks

    def _compare(self, reference: dict[Prompt, list[int]]) -> None:
        """Every answer to a compared prompt, under whatever threshold it ran, against stock vLLM's."""
        answers = [(prompt, answer) for prompt in reference for answer in self._tally.answers.get(prompt, [])]
        self.outcome.compared = len(answers)
        self.outcome.equal = sum(answer == reference[prompt] for prompt, answer in answers)
        self.outcome.requests = self._tally.requests
        self.outcome.failed_requests = len(self._tally.failures)
        self.outcome.tokens = self._tally.tokens
        if self.outcome.equal != self.outcome.compared:
            differ = self.outcome.compared - self.outcome.equal
            raise StepFailed("engine", f"{differ} of {self.outcome.compared} answers differ from stock vLLM's")

    async def _tear_down(self, step: Step) -> None:
        await self.cluster.kubectl("delete", "shiftdeployment", NAME, "--wait=true", within=90)

        async def children_left() -> str | None:
            left = await self.cluster.kubectl("get", *CHILDREN, "--ignore-not-found", "-o", "name")
            pods = await self.cluster.kubectl("get", "pods", "-l", f"shiftparallel.io/deployment={NAME}", "-o", "name")
            names = [*left.split(), *pods.split()]
            return f"still there: {', '.join(names)}" if names else None

        await until(children_left, step=step, part="garbage collection", within=90)
        step.say("its Deployment, Service, ConfigMap, ServiceAccount and pods are gone")
        await self.cluster.helm(
            "uninstall", "shift-operator", "--namespace", OPERATOR_NAMESPACE, "--wait", "--timeout", "60s", step=step
        )
        await self.cluster.down(step)
        if left := processes_of(self.cluster.directory):
            raise StepFailed("local cluster", "processes are left running", "\n".join(left))


def _one_line(text: str) -> str:
    return " ".join(text.split())[:80]
