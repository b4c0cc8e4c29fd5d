"""Asks engines which schedule they run, by GET /shift of each ready pod (docs/contract.md, section 3), and how many
requests they have, by GET /metrics.

A pod that has confirmed a generation is not asked again for it: an engine goes back to none only by a restart of its
container, which its pod's restart count shows.

Nobody waits for an engine that hangs: a reconcile gets what is known of it after PATIENCE_SECONDS, and comes again with
its answer. Such engines have places of their own, so that those that answer are not kept waiting by those that do not.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import aiohttp
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from shift_operator.api import labels
from shift_operator.api.schedule import Degree
from shift_operator.api.signals import CurvePoint
from shift_operator.planning.conditions import confirms
from shift_operator.planning.profile import Calibration, Memory

ANSWER_SECONDS = 2.0
PATIENCE_SECONDS = 0.25
"""How long a reconcile waits for answers; they take milliseconds."""
AT_ONCE = 32
"""Engines asked at the same time by the whole process."""
SILENT_AT_ONCE = 8
"""Of those that gave no answer in time when last asked."""
ANSWER_BYTES = 1 << 20
REMEMBERED = 8192
"""Pods whose confirmation and calibration are kept."""

NO_ANSWER_YET = "GET /shift has not answered yet"

Value = TypeVar("Value")


_REQUESTS = re.compile(r"^vllm:num_requests_(running|waiting)(?:\{[^}]*\})?\s+(\S+)", re.MULTILINE)


class _Part(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, frozen=True, extra="ignore")


class _Schedule(_Part):
    generation: int
    ranges: tuple[dict[str, int], ...]


class _Rank(_Part):
    rank: int
    generation: int


class _File(_Part):
    state: str
    generation: int | None = None
    error: str | None = None


class _Point(_Part):
    tokens: int
    seconds: float


class _Curve(_Part):
    sequence: int
    tensor: int
    points: tuple[_Point, ...]


class _Calibration(_Part):
    crossover_tokens: int | None = None
    curves: tuple[_Curve, ...] = ()


class _DegreeState(_Part):
    sequence: int
    tensor: int
    state: str


class _Memory(_Part):
    weight_bytes: int
    kv_cache_bytes: int


class _Answer(_Part):
    """The parts of GET /shift that we read."""

    version: str | None = None
    degree: Degree | None = None
    degrees: tuple[_DegreeState, ...] | None = None
    kv_cache_tokens: int | None = None
    memory: _Memory | None = None
    calibration: _Calibration | None = None
    gpus: int
    max_batched_tokens: int
    schedule: _Schedule
    ranks: tuple[_Rank, ...] = ()
    file: _File


@dataclass(frozen=True)
class EnginePod:
    """A pod whose engine can be asked; `life` changes with each restart of its container."""

    name: str
    life: str
    address: str


@dataclass(frozen=True)
class EngineReport:
    """What one engine runs. `generation` is what all its ranks confirmed, 0 for none; `problem` says why not more.

    `live_degrees`: those that it runs, or can build while it serves; None where it does not say.
    """

    pod: str
    generation: int = 0
    threshold_tokens: int | None = None
    ranks_confirmed: int = 0
    ranks: int = 0
    problem: str | None = None
    live_degrees: frozenset[Degree] | None = None


@dataclass(frozen=True)
class _Silence:
    """Why an engine gave no answer."""

    why: str


class Engines:
    """Asks pods over one HTTP session. Close it, or use it as an async context manager."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._places = asyncio.Semaphore(AT_ONCE)
        self._places_of_silent = asyncio.Semaphore(SILENT_AT_ONCE)
        self._silent: dict[str, bool] = {}
        self._asking: dict[str, asyncio.Task[EngineReport]] = {}
        self._late: dict[str, EngineReport] = {}
        self._last: dict[str, EngineReport] = {}
        self._confirmed: dict[str, EngineReport] = {}
        self._calibrations: dict[str, Calibration] = {}

    async def __aenter__(self) -> Engines:
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=AT_ONCE + SILENT_AT_ONCE))
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for task in self._asking.values():
            task.cancel()
        await asyncio.gather(*self._asking.values(), return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    async def reports(
        self, pods: Iterable[Mapping[str, Any]], generation: int, on_late: Callable[[], None] = lambda: None
    ) -> list[EngineReport]:
        """A report per ready pod, in the order given; asks those that have not confirmed this generation.

        Of one that has not answered within PATIENCE_SECONDS what was known before; `on_late` is called once it has.
        """
        ready = [pod for pod in map(engine_pod, pods) if pod]
        found: dict[str, EngineReport] = {}
        asking: dict[str, asyncio.Task[EngineReport]] = {}
        for pod in ready:
            late, known = self._late.pop(pod.life, None), self._confirmed.get(pod.life)
            if known is None or known.generation != generation:
                known = late
            if known is not None:
                found[pod.life] = known
            else:
                asking[pod.life] = self._asking.get(pod.life) or self._begin(pod)
        if asking:
            await asyncio.wait(asking.values(), timeout=PATIENCE_SECONDS)
        for pod in ready:
            task = asking.get(pod.life)
            if task is not None and task.done():
                found[pod.life] = task.result()
            elif task is not None:
                task.add_done_callback(partial(self._arrived, pod.life, on_late))
                found[pod.life] = self._last.get(pod.life) or EngineReport(pod.name, problem=NO_ANSWER_YET)
            # Between two steps the ranks may be a generation ahead of what the engine's API process says: that is no
            # confirmation yet, and kept it would never become one.
            if confirms(found[pod.life], generation):
                _remember(self._confirmed, pod.life, found[pod.life])
        return [found[pod.life] for pod in ready]

    def _begin(self, pod: EnginePod) -> asyncio.Task[EngineReport]:
        task = self._asking[pod.life] = asyncio.create_task(self._ask(pod), name=f"GET /shift of {pod.name}")
        task.add_done_callback(lambda _: self._asking.pop(pod.life, None))
        return task

    def _arrived(self, life: str, on_late: Callable[[], None], task: asyncio.Task[EngineReport]) -> None:
        if not task.cancelled() and task.exception() is None:
            _remember(self._late, life, task.result())
            on_late()

    async def requests(self, pods: Iterable[Mapping[str, Any]]) -> dict[str, int | None]:
        """The requests, running and waiting, of each ready pod's engine; None of one that does not say."""
        ready = [pod for pod in map(engine_pod, pods) if pod]
        counts = await asyncio.gather(*map(self._requests, ready))
        return {pod.name: count for pod, count in zip(ready, counts, strict=True)}

    def calibration(self, pod: Mapping[str, Any]) -> Calibration | None:
        """What the pod's engine has measured at its start, by its first answer since then, which live steps have not
        refined yet. None where it does not serve, was not asked, or measured nothing."""
        engine = engine_pod(pod)
        return self._calibrations.get(engine.life) if engine else None

    async def _requests(self, pod: EnginePod) -> int | None:
        text = await self._get(pod, "/metrics")
        return None if isinstance(text, _Silence) else requests_in(text.decode(errors="replace"))

    async def _ask(self, pod: EnginePod) -> EngineReport:
        report = await self._answer(pod)
        _remember(self._last, pod.life, report)
        return report

    async def _answer(self, pod: EnginePod) -> EngineReport:
        text = await self._get(pod, "/shift")
        if isinstance(text, _Silence):
            return EngineReport(pod.name, problem=text.why)
        try:
            answer = _Answer.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"])) or "answer"
            return EngineReport(pod.name, problem=f"GET /shift answered something else: {field}: {first['msg']}")
        calibration = _calibration_of(answer)
        if calibration is not None and pod.life not in self._calibrations:
            _remember(self._calibrations, pod.life, calibration)
        return _report_of(pod.name, answer)

    async def _get(self, pod: EnginePod, path: str) -> bytes | _Silence:
        if self._session is None:
            raise RuntimeError("Engines is used outside of its context")
        host = f"[{pod.address}]" if ":" in pod.address else pod.address
        url, patience = f"http://{host}:{labels.HTTP_PORT}{path}", aiohttp.ClientTimeout(total=ANSWER_SECONDS)
        places = self._places_of_silent if self._silent.pop(pod.life, False) else self._places
        try:
            async with places, self._session.get(url, timeout=patience) as response:
                if response.status != 200:
                    return _Silence(f"GET {path} answered {response.status}")
                return await _read(response.content)
        except TimeoutError:
            _remember(self._silent, pod.life, True)
            return _Silence(f"GET {path} gave no answer within {ANSWER_SECONDS:g} s")
        except (aiohttp.ClientError, OSError) as error:
            return _Silence(f"GET {path} failed: {error or type(error).__name__}")


def engine_pod(pod: Mapping[str, Any]) -> EnginePod | None:
    """The pod if its engine serves: ready, not on its way out, with an address."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions") or [])
    if not ready or not status.get("podIP") or metadata.get("deletionTimestamp"):
        return None
    restarts = sum(
        container.get("restartCount", 0)
        for container in status.get("containerStatuses") or []
        if container["name"] == labels.ENGINE_CONTAINER
    )
    return EnginePod(metadata["name"], f"{metadata['uid']}/{restarts}", status["podIP"])


def requests_in(metrics: str) -> int | None:
    """The requests that vLLM's metrics count, running and waiting, over all its engine cores. None where they count
    only one of the two, or say no number."""
    matches = _REQUESTS.findall(metrics)
    if {which for which, _ in matches} != {"running", "waiting"}:
        return None
    try:
        return int(sum(float(value) for _, value in matches))
    except (ValueError, OverflowError):  # no number, or NaN, or infinity
        return None


async def _read(content: aiohttp.StreamReader) -> bytes:
    """The whole body, at most ANSWER_BYTES of it: one `read` gives only what has arrived."""
    parts, left = [], ANSWER_BYTES
    while left > 0 and (part := await content.read(left)):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _remember(kept: dict[str, Value], life: str, value: Value) -> None:
    """Keeps a pod's value in place of the oldest, whose engine is asked again if it still lives."""
    kept[life] = value
    if len(kept) > REMEMBERED:
        del kept[next(iter(kept))]


def _calibration_of(answer: _Answer) -> Calibration | None:
    measured = answer.calibration
    if measured is None or not measured.curves or not answer.version or not answer.degree or not answer.kv_cache_tokens:
        return None
    try:
        curves = {
            Degree(sequence=curve.sequence, tensor=curve.tensor): tuple(
                CurvePoint(point.tokens, point.seconds) for point in curve.points
            )
            for curve in measured.curves
        }
    except ValidationError:  # a degree that no replica has
        return None
    return Calibration(
        engine_version=answer.version,
        gpus=answer.gpus,
        degree=answer.degree,
        curves=curves,
        crossover_tokens=measured.crossover_tokens,
        kv_tokens=answer.kv_cache_tokens,
        degrees=_degrees_in(answer, RUNNABLE) or frozenset(),
        memory=_memory_of(answer),
    )


def _memory_of(answer: _Answer) -> Memory | None:
    loaded = _degrees_in(answer, frozenset({"Loaded"}))
    if answer.memory is None or loaded is None:
        return None
    return Memory(answer.memory.weight_bytes, answer.memory.kv_cache_bytes, loaded)


def _report_of(pod: str, answer: _Answer) -> EngineReport:
    read = answer.schedule.generation
    confirming = [rank for rank in answer.ranks if rank.generation == read]
    everyone = len(answer.ranks) == answer.gpus and len(confirming) == answer.gpus
    confirmed = read if everyone else min((rank.generation for rank in answer.ranks), default=0)
    problem = answer.file.error and f"schedule file {answer.file.state}: {answer.file.error}"
    if not everyone and problem is None:
        problem = f"{len(confirming)} of {answer.gpus} ranks run generation {read}"
    first = answer.schedule.ranges[0] if answer.schedule.ranges else {}
    return EngineReport(
        pod=pod,
        generation=confirmed,
        threshold_tokens=first.get("upToTokens", answer.max_batched_tokens if first.get("sequence") == 1 else 0),
        ranks_confirmed=len(confirming),
        ranks=answer.gpus,
        problem=problem,
        live_degrees=_degrees_in(answer, LIVE),
    )


LIVE = frozenset({"Loaded", "Buildable", "Building"})
"""States of a degree in GET /shift that a schedule may name without a restart."""

RUNNABLE = LIVE | {"NeedsRestart"}
"""Those of a degree that the model can run at."""


def _degrees_in(answer: _Answer, states: frozenset[str]) -> frozenset[Degree] | None:
    """The degrees in one of these states; None where the engine does not say."""
    if answer.degrees is None:
        return None
    try:
        return frozenset(Degree(sequence=d.sequence, tensor=d.tensor) for d in answer.degrees if d.state in states)
    except ValidationError:  # a degree that no replica has
        return None
