"""Engines that take a question and give no answer: reconciles go on without it, and so do those of other engines.

Real HTTP servers, which answer when the test lets them. An engine that never does would hold a test for an hour.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from shift_operator.controller import engines as module
from shift_operator.controller.engines import AT_ONCE, NO_ANSWER_YET, SILENT_AT_ONCE, Engines

from tests.unit.controller.test_engines_confirm_a_generation import a_pod, an_answer, answering


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(module, "ANSWER_SECONDS", 3600.0)


@asynccontextmanager
async def a_hanging_engine(address: str) -> AsyncIterator[tuple[list[str], asyncio.Event]]:
    """Gives what it was asked, and what lets it answer."""
    asked: list[str] = []
    may_answer = asyncio.Event()

    async def shift(request: web.Request) -> web.Response:
        asked.append(request.path)
        await may_answer.wait()
        return web.json_response(an_answer(14, 14))

    async with answering(address, shift):
        yield asked, may_answer
        may_answer.set()


def pod(address: str, uid: str) -> dict[str, Any]:
    found = a_pod(address)
    found["metadata"]["uid"] = uid
    return found


async def test_a_reconcile_goes_on_and_comes_again_with_the_answer() -> None:
    async with a_hanging_engine("127.99.1.1") as (asked, may_answer), Engines() as engines:
        arrived = asyncio.Event()
        hanging = pod("127.99.1.1", "a")
        for _ in range(3):
            (report,) = await engines.reports([hanging], 14, arrived.set)
            assert (report.generation, report.problem) == (0, NO_ANSWER_YET)
        await asyncio.sleep(0.1)
        assert asked == ["/shift"], "one question at a time"
        may_answer.set()
        await arrived.wait()
        (report,) = await engines.reports([hanging], 14)
        assert (report.generation, report.problem) == (14, None)
        assert asked == ["/shift"], "the answer that came late was taken"


async def test_what_was_known_of_it_is_told_until_it_answers() -> None:
    async with a_hanging_engine("127.99.1.2") as (_, may_answer), Engines() as engines:
        may_answer.set()
        arrived = asyncio.Event()
        hanging = pod("127.99.1.2", "a")
        (first,) = await engines.reports([hanging], 14, arrived.set)
        if first.problem is not None:  # a slow machine
            await arrived.wait()
            (first,) = await engines.reports([hanging], 14)
        may_answer.clear()
        (report,) = await engines.reports([hanging], 15)
        assert report == first


async def test_many_that_hang_leave_places_for_one_that_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.5)
    addresses = [f"127.99.2.{n}" for n in range(1, AT_ONCE + SILENT_AT_ONCE + 10)]
    async with AsyncExitStack() as stack:
        for address in addresses:
            await stack.enter_async_context(a_hanging_engine(address))
        _, may_answer = await stack.enter_async_context(a_hanging_engine("127.99.1.3"))
        may_answer.set()
        engines = await stack.enter_async_context(Engines())
        hanging = [pod(address, address) for address in addresses]
        silent: list[Any] = []
        while len(silent) < len(hanging):  # until each is known to give no answer in time
            reports = await engines.reports(hanging, 14)
            silent = [report for report in reports if "no answer within" in str(report.problem)]
        monkeypatch.setattr(module, "ANSWER_SECONDS", 3600.0)
        monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.0)
        await engines.reports(hanging, 14)  # all are asked again, or wait for a place of the silent ones
        monkeypatch.setattr(module, "PATIENCE_SECONDS", 60.0)
        (report,) = await engines.reports([pod("127.99.1.3", "b")], 14)
        assert report.generation == 14
