"""Asks engines which schedule they run: GET /shift of each ready pod (docs/contract.md, section 3).

A pod that has confirmed a generation is not asked again for it: an engine goes back to none only by a restart of its
container, which its pod's restart count shows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from shift_operator.api import labels

ANSWER_SECONDS = 2.0
AT_ONCE = 32
"""Engines asked at the same time by the whole process."""
ANSWER_BYTES = 1 << 20
REMEMBERED = 8192
"""Pods whose confirmation is kept."""


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


class _Answer(_Part):
    """The parts of GET /shift that we read."""

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
    """What one engine runs. `generation` is what all its ranks confirmed, 0 for none; `problem` says why not more."""

    pod: str
    generation: int = 0
    threshold_tokens: int | None = None
    ranks_confirmed: int = 0
    ranks: int = 0
    problem: str | None = None


class Engines:
    """Asks pods over one HTTP session. Close it, or use it as an async context manager."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._places = asyncio.Semaphore(AT_ONCE)
        self._confirmed: dict[str, EngineReport] = {}

    async def __aenter__(self) -> Engines:
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS), connector=aiohttp.TCPConnector(limit=AT_ONCE)
        )
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def reports(self, pods: Iterable[Mapping[str, Any]], generation: int) -> list[EngineReport]:
        """A report per ready pod, in the order given; asks those that have not confirmed this generation."""
        return list(await asyncio.gather(*(self._report(pod, generation) for pod in map(engine_pod, pods) if pod)))

    async def _report(self, pod: EnginePod, generation: int) -> EngineReport:
        known = self._confirmed.get(pod.life)
        if known is not None and known.generation == generation:
            return known
        report = await self._ask(pod)
        if report.generation == generation:
            self._confirmed[pod.life] = report
            if len(self._confirmed) > REMEMBERED:
                del self._confirmed[next(iter(self._confirmed))]  # the oldest; if it still lives, it is asked again
        return report

    async def _ask(self, pod: EnginePod) -> EngineReport:
        if self._session is None:
            raise RuntimeError("Engines is used outside of its context")
        host = f"[{pod.address}]" if ":" in pod.address else pod.address
        try:
            async with self._places, self._session.get(f"http://{host}:{labels.HTTP_PORT}/shift") as response:
                if response.status != 200:
                    return EngineReport(pod.name, problem=f"GET /shift answered {response.status}")
                answer = _Answer.model_validate_json(await response.content.read(ANSWER_BYTES))
        except TimeoutError:
            return EngineReport(pod.name, problem=f"GET /shift gave no answer within {ANSWER_SECONDS:g} s")
        except (aiohttp.ClientError, OSError) as error:
            return EngineReport(pod.name, problem=f"GET /shift failed: {error or type(error).__name__}")
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"])) or "answer"
            return EngineReport(pod.name, problem=f"GET /shift answered something else: {field}: {first['msg']}")
        return _report_of(pod.name, answer)


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
    )
