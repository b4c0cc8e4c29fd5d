"""GET /shift, asked of real HTTP servers on addresses of their own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from shift_operator.controller.engines import EngineReport, Engines

TENSOR, SEQUENCE = {"upToTokens": 512, "sequence": 1, "tensor": 2}, {"sequence": 2, "tensor": 1}


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

    app = web.Application()
    app.add_routes([web.get("/shift", shift)])
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, address, 8000).start()
    try:
        yield answers
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
