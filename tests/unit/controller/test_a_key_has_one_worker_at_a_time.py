"""The work queue, on virtual time."""

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shift_operator.api.signals import DeploymentKey
from shift_operator.cluster.errors import Request, Throttled
from shift_operator.controller.queue import LONGEST_PAUSE_SECONDS, Again, Reconcile, WorkQueue

from tests.unit.examples import examples

CHAT = DeploymentKey("prod", "chat")
OnVirtualTime = Callable[[Coroutine[Any, Any, Any]], Any]


def now() -> float:
    return asyncio.get_running_loop().time()


@asynccontextmanager
async def a_queue(reconcile: Reconcile, workers: int = 2):  # type: ignore[no-untyped-def]
    queue = WorkQueue(reconcile, jitter=0.0)
    working = asyncio.create_task(queue.work(workers))
    try:
        yield queue
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)


def test_many_adds_make_one_reconcile(on_virtual_time: OnVirtualTime) -> None:
    async def scenario() -> None:
        runs = []

        async def reconcile(key: DeploymentKey) -> Again:
            runs.append(key)
            return Again.never()

        async with a_queue(reconcile) as queue:
            for _ in range(100):
                queue.add(CHAT)
            assert queue.depth == 1
            await asyncio.sleep(1)
            assert queue.idle
        assert runs == [CHAT]

    on_virtual_time(scenario())


def test_a_key_added_while_it_is_worked_on_is_worked_on_once_more_and_not_in_parallel(
    on_virtual_time: OnVirtualTime,
) -> None:
    async def scenario() -> None:
        spans: list[tuple[float, float]] = []

        async def reconcile(key: DeploymentKey) -> Again:
            begun = now()
            await asyncio.sleep(10)
            spans.append((begun, now()))
            return Again.after(3600)

        async with a_queue(reconcile) as queue:
            queue.add(CHAT)
            await asyncio.sleep(1)
            for _ in range(5):
                queue.add(CHAT)
            await asyncio.sleep(100)
        assert spans == [(0, 10), (10, 20)]

    on_virtual_time(scenario())


def test_a_reconcile_says_when_it_wants_to_run_again(on_virtual_time: OnVirtualTime) -> None:
    async def scenario() -> None:
        times = []

        async def reconcile(key: DeploymentKey) -> Again:
            times.append(now())
            return Again.after(600)

        async with a_queue(reconcile) as queue:
            queue.add(CHAT)
            await asyncio.sleep(1500)
            queue.add(CHAT)  # news: the pause begins anew
            await asyncio.sleep(700)
        assert times == [0, 600, 1200, 1500, 2100]

    on_virtual_time(scenario())


def test_failures_in_a_row_come_again_ever_later_and_success_forgets_them(
    on_virtual_time: OnVirtualTime, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        times: list[float] = []
        broken = True

        async def reconcile(key: DeploymentKey) -> Again:
            times.append(now())
            if broken:
                raise ValueError("a bug")
            return Again.never()

        async with a_queue(reconcile) as queue:
            queue.add(CHAT)
            await asyncio.sleep(1000)
            pauses = [after - before for before, after in itertools.pairwise(times)]
            assert pauses[:6] == [0.25, 0.5, 1, 2, 4, 8]
            assert set(pauses[9:]) == {LONGEST_PAUSE_SECONDS}
            broken = False
            queue.add(CHAT)
            await asyncio.sleep(0)
            broken = True
            times.clear()
            queue.add(CHAT)
            await asyncio.sleep(0.3)
            assert len(times) == 2, "the pause is the first one again"

    on_virtual_time(scenario())
    assert "reconcile failed" in caplog.text


def test_a_throttling_server_sets_the_pause(on_virtual_time: OnVirtualTime) -> None:
    async def scenario() -> None:
        times = []

        async def reconcile(key: DeploymentKey) -> Again:
            times.append(now())
            raise Throttled(Request("patch", "deployments.apps"), "slow down", after=17.0)

        async with a_queue(reconcile) as queue:
            queue.add(CHAT)
            await asyncio.sleep(20)
        assert times == [0, 17]

    on_virtual_time(scenario())


def test_a_hung_reconcile_gives_its_worker_back(on_virtual_time: OnVirtualTime) -> None:
    async def scenario() -> None:
        done = []

        async def reconcile(key: DeploymentKey) -> Again:
            if key == CHAT:
                await asyncio.Event().wait()
            done.append(key)
            return Again.never()

        async with a_queue(reconcile, workers=1) as queue:
            queue.add(CHAT)
            queue.add(DeploymentKey("prod", "other"))
            await asyncio.sleep(61)
        assert done == [DeploymentKey("prod", "other")]

    on_virtual_time(scenario())


def test_the_end_of_each_reconcile_is_told(on_virtual_time: OnVirtualTime) -> None:
    async def scenario() -> None:
        told = []

        async def reconcile(key: DeploymentKey) -> Again:
            await asyncio.sleep(2)
            if key == CHAT:
                raise ValueError("a bug")
            return Again.never()

        queue = WorkQueue(reconcile, on_done=lambda key, seconds, error: told.append((key.name, seconds, repr(error))))
        working = asyncio.create_task(queue.work(1))
        queue.add(DeploymentKey("prod", "other"))
        queue.add(CHAT)
        await asyncio.sleep(4.1)
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        assert told == [("other", 2.0, "None"), ("chat", 2.0, "ValueError('a bug')")]

    on_virtual_time(scenario())


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    adds=st.lists(st.tuples(st.floats(0, 30), st.integers(0, 4)), max_size=40),
    seconds=st.lists(st.floats(0, 5), min_size=5, max_size=5),
    workers=st.integers(1, 4),
)
def test_whatever_comes_each_key_is_reconciled_after_its_last_add_and_never_twice_at_once(
    on_virtual_time: OnVirtualTime, adds: list[tuple[float, int]], seconds: list[float], workers: int
) -> None:
    async def scenario() -> None:
        working: Counter[str] = Counter()
        begun: dict[str, float] = {}

        async def reconcile(key: DeploymentKey) -> Again:
            working[key.name] += 1
            assert working[key.name] == 1, "two workers on one key"
            assert working.total() <= workers
            begun[key.name] = now()
            await asyncio.sleep(seconds[int(key.name)])
            working[key.name] -= 1
            return Again.never()

        last: dict[str, float] = {}
        async with a_queue(reconcile, workers) as queue:
            for at, number in sorted(adds):
                await asyncio.sleep(at - now())
                queue.add(DeploymentKey("prod", str(number)))
                last[str(number)] = now()
            await asyncio.sleep(500)
            assert queue.idle
        assert begun.keys() == last.keys()
        assert all(begun[name] >= last[name] for name in last)

    on_virtual_time(scenario())


def test_a_deadline_brings_a_key_back_sooner_and_never_later() -> None:
    assert Again.after(600).at_latest(20) == Again.after(20)
    assert Again.after(10).at_latest(20) == Again.after(10)
    assert Again.after(10).at_latest(None) == Again.after(10)
    assert Again.never().at_latest(20) == Again.after(20)
