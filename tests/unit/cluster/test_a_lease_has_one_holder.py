"""The Lease on virtual time, against an API server in memory that keeps resourceVersions and has bad days.

The real API server and real processes: tests/integration/operator/test_a_second_operator_takes_over.py.
"""

import asyncio
import copy
import random
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shift_operator.cluster.errors import Conflict, Forbidden, LeaseLost, NotFound, Request, Unreachable
from shift_operator.cluster.lease import Lease

from tests.unit.controller.conftest import VirtualTimeLoop
from tests.unit.examples import examples

ASKED = Request("get", "leases.coordination.k8s.io", "shift-system", "shift-operator")
SECONDS = 12.0


def run(scenario: Coroutine[Any, Any, Any]) -> Any:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(scenario)


def now() -> float:
    return asyncio.get_running_loop().time()


class ApiServer:
    """One Lease. `weather()` comes before and after each request takes effect: it may wait and may raise."""

    def __init__(self, weather: Callable[[], Coroutine[Any, Any, None]] | None = None) -> None:
        self.stored: dict[str, Any] | None = None
        self.version = 0
        self._weather = weather

    async def get(self, *_: object) -> dict[str, Any]:
        await self._pass()
        if self.stored is None:
            raise NotFound(ASKED, "not found")
        answer = copy.deepcopy(self.stored)
        await self._pass()
        return answer

    async def create_lease(self, body: dict[str, Any]) -> dict[str, Any]:
        await self._pass()
        if self.stored is not None:
            raise Conflict(ASKED, "exists already")
        return await self._store(body)

    async def replace_lease(self, body: dict[str, Any]) -> dict[str, Any]:
        await self._pass()
        if self.stored is None:
            raise NotFound(ASKED, "not found")
        if body["metadata"]["resourceVersion"] != self.stored["metadata"]["resourceVersion"]:
            raise Conflict(ASKED, "the object has been modified")
        return await self._store(body)

    async def _store(self, body: dict[str, Any]) -> dict[str, Any]:
        self.version += 1
        self.stored = copy.deepcopy(body)
        self.stored["metadata"]["resourceVersion"] = str(self.version)
        answer = copy.deepcopy(self.stored)
        await self._pass()
        return answer

    async def _pass(self) -> None:
        if self._weather is not None:
            await self._weather()

    @property
    def spec(self) -> dict[str, Any]:
        assert self.stored is not None
        spec: dict[str, Any] = self.stored["spec"]
        return spec


def a_lease(server: ApiServer, identity: str) -> Lease:
    return Lease(server, "shift-system", "shift-operator", identity, seconds=SECONDS, clock=now)  # type: ignore[arg-type]


def may_write(lease: Lease) -> bool:
    try:
        lease.fence()
    except LeaseLost:
        return False
    return True


async def ended(task: "asyncio.Task[Any]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_the_first_candidate_creates_it_and_the_second_stands_by() -> None:
    async def scenario() -> None:
        server = ApiServer()
        first, second = a_lease(server, "a"), a_lease(server, "b")
        assert not may_write(first)
        await first.acquire()
        assert first.fence() == pytest.approx(SECONDS)
        seen: list[str] = []
        keeping = asyncio.create_task(first.keep())
        waiting = asyncio.create_task(second.acquire(seen.append))
        await asyncio.sleep(600)
        assert (may_write(first), may_write(second), waiting.done()) == (True, False, False)
        assert set(seen) == {"a"}
        assert server.spec["leaseTransitions"] == 0
        assert server.spec["leaseDurationSeconds"] == 12
        await ended(keeping)
        await ended(waiting)

    run(scenario())


def test_a_holder_that_is_killed_is_followed_within_a_lease_and_a_look() -> None:
    async def scenario() -> None:
        server = ApiServer()
        first, second = a_lease(server, "a"), a_lease(server, "b")
        await first.acquire()
        keeping = asyncio.create_task(first.keep())
        waiting = asyncio.create_task(second.acquire())
        await asyncio.sleep(100.7)
        await ended(keeping)
        killed_at = now()
        await waiting
        assert SECONDS * 5 / 6 <= now() - killed_at <= SECONDS * 7 / 6 + 0.1
        assert not may_write(first)
        assert (server.spec["holderIdentity"], server.spec["leaseTransitions"]) == ("b", 1)

    run(scenario())


def test_a_lease_that_was_given_back_is_taken_at_the_next_look() -> None:
    async def scenario() -> None:
        server = ApiServer()
        first, second = a_lease(server, "a"), a_lease(server, "b")
        await first.acquire()
        waiting = asyncio.create_task(second.acquire())
        await asyncio.sleep(1)
        await first.release()
        released_at = now()
        assert not may_write(first)
        await waiting
        assert now() - released_at <= SECONDS / 6

    run(scenario())


def test_a_holder_without_an_api_server_writes_no_more_and_says_so_before_anyone_else_may() -> None:
    async def scenario() -> None:
        up = True

        async def weather() -> None:
            if not up:
                raise Unreachable(ASKED, "refused")

        server = ApiServer(weather)
        lease = a_lease(server, "a")
        await lease.acquire()
        renewed_at = now()
        up = False
        with pytest.raises(LeaseLost, match="not renewed for 8 s, so another process may hold it soon"):
            await lease.keep()
        assert now() - renewed_at == pytest.approx(SECONDS * 2 / 3)
        assert not may_write(lease)

    run(scenario())


def test_a_request_that_hangs_costs_a_try_and_not_the_lease() -> None:
    async def scenario() -> None:
        hanging = False

        async def weather() -> None:
            nonlocal hanging
            if hanging:
                hanging = False
                await asyncio.sleep(3600)

        server = ApiServer(weather)
        lease = a_lease(server, "a")
        await lease.acquire()
        keeping = asyncio.create_task(lease.keep())
        await asyncio.sleep(SECONDS)
        hanging = True
        await asyncio.sleep(SECONDS)
        assert may_write(lease)
        await ended(keeping)

    run(scenario())


def test_a_process_that_was_stopped_for_long_finds_its_fence_closed() -> None:
    """SIGSTOP, a suspended machine: nothing of ours ran meanwhile, so only the clock can tell."""

    async def scenario() -> None:
        clock_jump = 0.0
        server = ApiServer()
        lease = Lease(server, "shift-system", "shift-operator", "a", seconds=SECONDS, clock=lambda: now() + clock_jump)  # type: ignore[arg-type]
        await lease.acquire()
        assert may_write(lease)
        clock_jump = SECONDS
        with pytest.raises(LeaseLost):
            lease.fence()

    run(scenario())


def test_who_finds_another_holder_ends_at_once() -> None:
    async def scenario() -> None:
        server = ApiServer()
        lease = a_lease(server, "a")
        await lease.acquire()
        server.version += 1
        server.spec["holderIdentity"] = "b"
        server.stored["metadata"]["resourceVersion"] = str(server.version)  # type: ignore[index]
        with pytest.raises(LeaseLost, match="b holds the lease now"):
            await lease.keep()
        assert now() <= SECONDS / 6 + 0.1

    run(scenario())


def test_a_label_that_someone_puts_on_the_lease_stays_and_costs_nothing() -> None:
    async def scenario() -> None:
        server = ApiServer()
        lease = a_lease(server, "a")
        await lease.acquire()
        keeping = asyncio.create_task(lease.keep())
        server.version += 1
        server.stored["metadata"] |= {"resourceVersion": str(server.version), "labels": {"team": "x"}}  # type: ignore[index]
        await asyncio.sleep(SECONDS)
        assert may_write(lease)
        assert server.stored["metadata"]["labels"] == {"team": "x"}  # type: ignore[index]
        await ended(keeping)

    run(scenario())


def test_a_deleted_lease_is_made_anew_by_its_holder_and_not_by_who_stands_by() -> None:
    async def scenario() -> None:
        server = ApiServer()
        first, second = a_lease(server, "a"), a_lease(server, "b")
        await first.acquire()
        waiting = asyncio.create_task(second.acquire())
        keeping = asyncio.create_task(first.keep())
        await asyncio.sleep(SECONDS * 3)
        server.stored = None
        await asyncio.sleep(SECONDS * 3)
        assert (may_write(first), waiting.done()) == (True, False)
        await ended(keeping)
        await ended(waiting)

    run(scenario())


def test_a_refused_permission_ends_the_waiting() -> None:
    async def scenario() -> None:
        async def weather() -> None:
            raise Forbidden(ASKED, "leases is forbidden")

        with pytest.raises(Forbidden):
            await a_lease(ApiServer(weather), "a").acquire()

    run(scenario())


@settings(max_examples=examples(60))
@given(st.integers(min_value=0, max_value=2**32), st.sampled_from([0.0, 0.05, 0.3, 0.7]))
def test_whatever_the_weather_no_two_may_write_and_it_goes_on_after_it(seed: int, share_lost: float) -> None:
    """Three candidates; requests that are slow, refused, or whose answers are lost; processes that are killed."""

    async def scenario() -> None:
        dice = random.Random(seed)
        stormy = True

        async def weather() -> None:
            if stormy:
                await asyncio.sleep(dice.choice([0.0, 0.01, 0.5, 2.0, 20.0]) * dice.random())
                if dice.random() < share_lost:
                    raise Unreachable(ASKED, "lost")

        server = ApiServer(weather)
        alive: dict[str, Lease] = {}
        tasks: dict[str, asyncio.Task[None]] = {}
        lives = 0

        async def life(lease: Lease) -> None:
            await lease.acquire()
            await lease.keep()

        def start() -> None:
            nonlocal lives
            lives += 1
            name = f"life-{lives}"
            alive[name] = a_lease(server, name)
            tasks[name] = asyncio.create_task(life(alive[name]))

        for _ in range(3):
            start()
        for step in range(900):
            stormy = step < 600
            await asyncio.sleep(0.25)
            writers = [name for name, lease in alive.items() if may_write(lease)]
            assert len(writers) <= 1, f"at {now():.1f} s"
            if stormy and dice.random() < 0.01:
                name = dice.choice(sorted(alive))
                await ended(tasks.pop(name))  # killed: it never writes again, and gives nothing back
                del alive[name]
                start()
            for name in [name for name, task in tasks.items() if task.done()]:
                assert isinstance(tasks[name].exception(), LeaseLost)
                del tasks[name], alive[name]
                start()
        assert len(writers) == 1, "in fair weather somebody works"
        for task in tasks.values():
            await ended(task)

    run(scenario())
