"""GET /shift, asked of real HTTP servers on addresses of their own."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from shift_operator.api.schedule import Degree
from shift_operator.api.signals import CurvePoint
from shift_operator.controller import engines as module
from shift_operator.controller.engines import EngineReport, Engines
from shift_operator.planning.profile import Calibration, Memory

TENSOR, SEQUENCE = {"upToTokens": 512, "sequence": 1, "tensor": 2}, {"sequence": 2, "tensor": 1}


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine an answer may take longer than a reconcile waits for it."""
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 30.0)
    monkeypatch.setattr(module, "ANSWER_SECONDS", 30.0)


def an_answer(*ranks: int, generation: int = 14, **changes: Any) -> dict[str, Any]:
    """GET /shift of an engine that read `generation`, whose ranks run the given ones (docs/contract.md)."""
    return {
        "version": "0.1.0",
        "gpus": 2,
        "maxBatchedTokens": 2048,
        "schedule": {"generation": generation, "ranges": [TENSOR, SEQUENCE]},
        "ranks": [{"rank": n, "generation": rank, "step": 812} for n, rank in enumerate(ranks)],
        "file": {"path": "/etc/shift/schedule.json", "state": "Applied", "generation": generation, "error": None},
    } | changes


def a_pod(address: str, *, ready: bool = True, restarts: int = 0, ending: bool = False) -> dict[str, Any]:
    metadata = {"name": "chat-0", "uid": "u", "namespace": "prod"}
    if ending:
        metadata["deletionTimestamp"] = "2026-11-24T11:00:00Z"
    return {
        "metadata": metadata,
        "status": {
            "podIP": address,
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
            "containerStatuses": [{"name": "engine", "restartCount": restarts}],
        },
    }


@asynccontextmanager
async def an_engine(address: str, answers: list[Any]) -> AsyncIterator[list[Any]]:
    """Serves the answers in turn; a number is a bare status. Gives what is still to be asked for."""

    async def shift(request: web.Request) -> web.Response:
        answer = answers.pop(0)
        if isinstance(answer, int):
            return web.Response(status=answer)
        return web.Response(text=answer) if isinstance(answer, str) else web.json_response(answer)

    async with answering(address, shift):
        yield answers


@asynccontextmanager
async def answering(address: str, shift: Callable[[web.Request], Awaitable[web.Response]]) -> AsyncIterator[None]:
    """A server on this address whose GET /shift is answered by `shift`."""
    app = web.Application()
    app.add_routes([web.get("/shift", shift)])
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, address, 8000).start()
    try:
        yield
    finally:
        await runner.cleanup()


async def test_a_generation_is_confirmed_when_all_ranks_name_it() -> None:
    async with an_engine("127.99.0.1", [an_answer(14, 14)]), Engines() as engines:
        (report,) = await engines.reports([a_pod("127.99.0.1")], generation=14)
    assert report == EngineReport("chat-0", generation=14, threshold_tokens=512, ranks_confirmed=2, ranks=2)


@pytest.mark.parametrize(
    ("answer", "generation", "problem"),
    [
        (an_answer(14, 13), 13, "1 of 2 ranks run generation 14"),
        (an_answer(14), 14, "1 of 2 ranks run generation 14"),
        (an_answer(generation=0), 0, "0 of 2 ranks run generation 0"),
        (503, 0, "GET /shift answered 503"),
        ("<html>", 0, "GET /shift answered something else: answer: Invalid JSON"),
        ({"gpus": 2}, 0, "GET /shift answered something else: maxBatchedTokens: Field required"),
        (
            an_answer(13, 13, generation=13, file={"state": "Invalid", "error": "ranges do not ascend"}),
            13,
            "schedule file Invalid: ranges do not ascend",
        ),
    ],
)
async def test_what_is_not_confirmed_says_why(answer: Any, generation: int, problem: str) -> None:
    async with an_engine("127.99.0.2", [answer]), Engines() as engines:
        (report,) = await engines.reports([a_pod("127.99.0.2")], generation=15)
    assert report.generation == generation
    assert report.problem is not None
    assert report.problem.startswith(problem)


async def test_a_confirmed_pod_is_not_asked_again_until_its_container_restarts() -> None:
    async with (
        an_engine("127.99.0.3", [an_answer(14, 14), an_answer(0, 0, generation=0)]) as unasked,
        Engines() as engines,
    ):
        for _ in range(3):
            (report,) = await engines.reports([a_pod("127.99.0.3")], generation=14)
            assert report.generation == 14
        assert len(unasked) == 1
        (report,) = await engines.reports([a_pod("127.99.0.3", restarts=1)], generation=14)
        assert report.generation == 0


async def test_ranks_that_are_ahead_of_their_engines_word_are_asked_again() -> None:
    answers = [an_answer(14, 14, generation=13), an_answer(14, 14)]
    async with an_engine("127.99.0.8", answers), Engines() as engines:
        (early,) = await engines.reports([a_pod("127.99.0.8")], generation=14)
        (report,) = await engines.reports([a_pod("127.99.0.8")], generation=14)
    assert early.ranks_confirmed == 0
    assert (report.ranks_confirmed, report.threshold_tokens, report.problem) == (2, 512, None)


async def test_nobody_home_is_a_problem_not_an_error() -> None:
    async with Engines() as engines:
        (report,) = await engines.reports([a_pod("127.99.0.4")], generation=14)
    assert report.problem is not None
    assert report.problem.startswith("GET /shift failed: ")


async def test_pods_that_are_not_ready_or_are_ending_are_not_asked() -> None:
    async with Engines() as engines:
        pods = [a_pod("127.99.0.5", ready=False), a_pod("127.99.0.5", ending=True), a_pod("")]
        assert await engines.reports(pods, generation=14) == []


async def test_with_one_degree_for_all_steps_the_threshold_is_at_an_end() -> None:
    only_tensor = {"generation": 2, "ranges": [{"sequence": 1, "tensor": 2}]}
    only_sequence = {"generation": 2, "ranges": [{"sequence": 2, "tensor": 1}]}
    answers = [an_answer(2, 2, generation=2, schedule=schedule) for schedule in (only_tensor, only_sequence)]
    async with an_engine("127.99.0.6", answers), Engines() as engines:
        reports = [await engines.reports([a_pod("127.99.0.6", restarts=n)], generation=2) for n in range(2)]
    assert [report.threshold_tokens for (report,) in reports] == [2048, 0]


CALIBRATED = {
    "degree": {"sequence": 2, "tensor": 1},
    "kvCacheTokens": 480_000,
    "memory": {"weightBytes": 8_000, "kvCacheBytes": 40_000},
    "degrees": [
        {"sequence": 1, "tensor": 2, "state": "Loaded", "reason": None},
        {"sequence": 2, "tensor": 1, "state": "NeedsRestart", "reason": "a rank needs memory"},
    ],
    "calibration": {
        "state": "Done",
        "crossoverTokens": 384,
        "curves": [
            {"sequence": 1, "tensor": 2, "points": [{"tokens": 1, "seconds": 0.0021}]},
            {"sequence": 2, "tensor": 1, "points": [{"tokens": 1, "seconds": 0.0040}]},
        ],
    },
}


async def test_what_an_engine_measured_is_what_it_said_first() -> None:
    """Later answers have curves that live steps refined."""
    later = CALIBRATED | {"kvCacheTokens": 1}
    answers = [an_answer(13, 13, **CALIBRATED), an_answer(14, 14, **later), an_answer(14, 14, **later)]
    async with an_engine("127.99.0.9", answers), Engines() as engines:
        pod = a_pod("127.99.0.9")
        assert engines.calibration(pod) is None, "not asked yet"
        await engines.reports([pod], generation=14)
        await engines.reports([pod], generation=14)
        assert engines.calibration(pod) == Calibration(
            engine_version="0.1.0",
            gpus=2,
            degree=Degree(sequence=2, tensor=1),
            curves={
                Degree(sequence=1, tensor=2): (CurvePoint(1, 0.0021),),
                Degree(sequence=2, tensor=1): (CurvePoint(1, 0.0040),),
            },
            crossover_tokens=384,
            kv_tokens=480_000,
            degrees=frozenset({Degree(sequence=1, tensor=2), Degree(sequence=2, tensor=1)}),
            memory=Memory(8_000, 40_000, frozenset({Degree(sequence=1, tensor=2)})),
        )
        assert engines.calibration(a_pod("127.99.0.9", ready=False)) is None
        restarted = a_pod("127.99.0.9", restarts=1)
        await engines.reports([restarted], generation=14)
        again = engines.calibration(restarted)
        assert again is not None
        assert again.kv_tokens == 1


@pytest.mark.parametrize(
    "lacks",
    [
        {"calibration": {"state": "Off", "crossoverTokens": None, "curves": []}},
        {"kvCacheTokens": None},
        {"calibration": None},
    ],
)
async def test_an_engine_that_measured_nothing_has_no_calibration(lacks: dict[str, Any]) -> None:
    async with an_engine("127.99.0.9", [an_answer(14, 14, **CALIBRATED | lacks)]), Engines() as engines:
        pod = a_pod("127.99.0.9")
        (report,) = await engines.reports([pod], generation=14)
        assert engines.calibration(pod) is None
    assert report.generation == 14
