"""Installs on virtual time, each with its Lease, against an API server in memory that has bad days.

The real API server and real processes: tests/integration/operator/test_overlapping_installs_do_not_fight.py.
"""

from __future__ import annotations

import asyncio
import copy
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shift_operator.cluster.client import Page
from shift_operator.cluster.errors import (
    Conflict,
    Forbidden,
    LeaseLost,
    NotFound,
    Request,
    ServedByAnother,
    Unreachable,
)
from shift_operator.cluster.lease import Lease
from shift_operator.controller.installs import FORBIDDEN, NO_LEASE, Installs

from tests.unit.controller.conftest import VirtualTimeLoop
from tests.unit.examples import examples

OnVirtualTime = Callable[[Coroutine[Any, Any, Any]], Any]
ASKED = Request("list", "leases.coordination.k8s.io")
WRITE = Request("patch", "deployments.apps", "prod", "chat")
T0 = datetime(2026, 11, 26, tzinfo=UTC)
SECONDS = 12.0


def now() -> float:
    return asyncio.get_running_loop().time()


class ApiServer:
    """Leases by name. `weather()` comes before and after each request takes effect: it may wait and may raise."""

    def __init__(self) -> None:
        self.stored: dict[str, dict[str, Any]] = {}
        self.version = 0
        self.may_list = True
        self.weather: Callable[[], Awaitable[None]] = _fair

    async def list(self, resource: object, namespace: object, selector: str) -> AsyncIterator[Page]:
        await self.weather()
        if not self.may_list:
            raise Forbidden(ASKED, "leases is forbidden")
        wanted = dict(term.split("=") for term in selector.split(","))
        bodies = [b for b in self.stored.values() if wanted.items() <= b["metadata"].get("labels", {}).items()]
        page = Page(copy.deepcopy(bodies), self.version)
        await self.weather()
        yield page

    async def get(self, resource: object, namespace: str, name: str) -> dict[str, Any]:
        await self.weather()
        if name not in self.stored:
            raise NotFound(ASKED, "not found")
        answer = copy.deepcopy(self.stored[name])
        await self.weather()
        return answer

    async def create_lease(self, body: dict[str, Any]) -> dict[str, Any]:
        await self.weather()
        if body["metadata"]["name"] in self.stored:
            raise Conflict(ASKED, "exists already")
        created = (T0 + timedelta(seconds=int(now()))).isoformat()
        return await self._store({**body, "metadata": {**body["metadata"], "creationTimestamp": created}})

    async def replace_lease(self, body: dict[str, Any]) -> dict[str, Any]:
        await self.weather()
        known = self.stored.get(body["metadata"]["name"])
        if known is None:
            raise NotFound(ASKED, "not found")
        if body["metadata"]["resourceVersion"] != known["metadata"]["resourceVersion"]:
            raise Conflict(ASKED, "the object has been modified")
        return await self._store(body)

    async def _store(self, body: dict[str, Any]) -> dict[str, Any]:
        self.version += 1
        stored = copy.deepcopy(body)
        stored["metadata"]["resourceVersion"] = str(self.version)
        self.stored[stored["metadata"]["name"]] = stored
        answer = copy.deepcopy(stored)
        await self.weather()
        return answer


async def _fair() -> None:
    await asyncio.sleep(0.001)


class Install:
    """A process of an install. `writing_until`: when the longest write ends that it may have begun by now."""

    def __init__(self, server: ApiServer, name: str, *namespaces: str, instance: str = "") -> None:
        self.name = name
        self.writing_until = 0.0
        self.changes = 0
        cluster: Any = server
        self.installs = Installs(cluster, ("system", name), namespaces, instance, clock=now)
        self.installs.on_change = self._count
        self.lease = Lease(
            cluster,
            "system",
            name,
            f"{name}-{id(self)}",
            seconds=SECONDS,
            clock=now,
            marks=self.installs.marks,
            before_renewal=self.installs.look,
        )
        self.task = asyncio.create_task(self._live())

    def try_to_write(self) -> bool:
        """Whether a write may begin now; it then may last as long as the fence allows."""
        try:
            self.installs.check(WRITE)
            self.writing_until = now() + self.lease.fence()
        except ServedByAnother:
            return False
        except LeaseLost:
            return False
        return True

    async def end(self, *, give_back: bool = False) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        if give_back:
            await self.lease.release()
            self.writing_until = 0.0

    async def _live(self) -> None:
        await self.lease.acquire()
        keeping = asyncio.create_task(self.lease.keep())
        try:
            await self.installs.look_once(asyncio.Event())
            await keeping
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)

    def _count(self) -> None:
        self.changes += 1


async def writes_within(install: Install, seconds: float) -> bool:
    deadline = now() + seconds
    while not install.try_to_write():
        if now() > deadline:
            return False
        await asyncio.sleep(0.25)
    return True


def test_alone_it_writes_at_once(on_virtual_time: OnVirtualTime) -> None:
    async def scenario() -> None:
        install = Install(ApiServer(), "a")
        assert await writes_within(install, 0.5)
        await install.end()

    on_virtual_time(scenario())


def test_one_that_names_the_namespace_waits_until_the_other_must_have_seen_it(on_virtual_time: OnVirtualTime) -> None:
    async def scenario() -> None:
        server = ApiServer()
        everywhere = Install(server, "a")
        await asyncio.sleep(60)
        named = Install(server, "b", "prod")
        await asyncio.sleep(3)
        assert (everywhere.try_to_write(), named.try_to_write()) == (False, False)
        assert everywhere.installs.is_ours("dev")
        assert await writes_within(named, SECONDS + 3)
        assert [other.name for other in named.installs.ownership("prod").others] == ["system/a"]
        assert everywhere.changes == 1
        assert named.changes == 2, "it came, it let go"
        await everywhere.end()
        await named.end()

    on_virtual_time(scenario())


@pytest.mark.parametrize("give_back", [True, False])
def test_the_other_takes_over_a_lease_after_the_owner_has_ended(
    on_virtual_time: OnVirtualTime, give_back: bool
) -> None:
    async def scenario() -> None:
        server = ApiServer()
        everywhere, named = Install(server, "a"), Install(server, "b", "prod")
        assert await writes_within(named, SECONDS + 3)
        await named.end(give_back=give_back)
        await asyncio.sleep(SECONDS - 5)
        assert not everywhere.try_to_write()
        assert await writes_within(everywhere, 10)
        assert everywhere.installs.ownership("prod").others == ()
        await everywhere.end()

    on_virtual_time(scenario())


def test_a_new_process_of_the_owner_in_time_makes_nobody_take_over(on_virtual_time: OnVirtualTime) -> None:
    async def scenario() -> None:
        server = ApiServer()
        everywhere, named = Install(server, "a"), Install(server, "b", "prod")
        assert await writes_within(named, SECONDS + 3)
        for _ in range(3):
            await named.end(give_back=True)
            await asyncio.sleep(5)
            named = Install(server, "b", "prod")
            for _ in range(80):
                await asyncio.sleep(0.25)
                assert not everywhere.try_to_write()
        assert named.try_to_write()
        await everywhere.end()
        await named.end()

    on_virtual_time(scenario())


def test_a_younger_one_that_joins_does_not_stop_the_owner(on_virtual_time: OnVirtualTime) -> None:
    async def scenario() -> None:
        server = ApiServer()
        owner = Install(server, "a")
        await asyncio.sleep(10)
        younger = Install(server, "b")
        for _ in range(120):
            await asyncio.sleep(0.25)
            assert (owner.try_to_write(), younger.try_to_write()) == (True, False)
        await owner.end()
        await younger.end()

    on_virtual_time(scenario())


def test_one_whose_lease_was_deleted_is_the_younger_from_then_on(on_virtual_time: OnVirtualTime) -> None:
    async def scenario() -> None:
        server = ApiServer()
        first = Install(server, "a")
        await asyncio.sleep(10)
        second = Install(server, "b")
        await asyncio.sleep(10)
        del server.stored["a"]
        for _ in range(160):
            await asyncio.sleep(0.25)
            assert not (second.try_to_write() and first.writing_until > now())
            first.try_to_write()
        assert (first.try_to_write(), second.try_to_write()) == (False, True)
        await first.end()
        await second.end()

    on_virtual_time(scenario())


def test_installs_of_different_instance_names_are_strangers(on_virtual_time: OnVirtualTime) -> None:
    async def scenario() -> None:
        server = ApiServer()
        plain, named = Install(server, "a"), Install(server, "b", instance="b")
        await asyncio.sleep(10)
        assert plain.try_to_write()
        assert named.try_to_write()
        assert named.installs.ownership("prod").others == ()
        await plain.end()
        await named.end()

    on_virtual_time(scenario())


def test_without_the_right_to_see_others_it_works_and_says_so(on_virtual_time: OnVirtualTime) -> None:
    async def scenario() -> None:
        server = ApiServer()
        server.may_list = False
        install = Install(server, "a")
        assert await writes_within(install, 0.5)
        assert install.installs.ownership("prod").hidden == FORBIDDEN
        await install.end()

    on_virtual_time(scenario())


def test_without_a_lease_it_works_and_says_that_it_is_blind() -> None:
    alone = Installs(None, None, (), "")
    alone.check(WRITE)
    assert alone.ownership("prod").hidden == NO_LEASE


def test_events_are_everyones(on_virtual_time: OnVirtualTime) -> None:
    async def scenario() -> None:
        server = ApiServer()
        first = Install(server, "a")
        await asyncio.sleep(1)
        second = Install(server, "b")
        await asyncio.sleep(5)
        second.installs.check(Request("create", "events.events.k8s.io", "prod", "chat.1"))
        with pytest.raises(ServedByAnother, match="install system/a serves this namespace"):
            second.installs.check(WRITE)
        await first.end()
        await second.end()

    on_virtual_time(scenario())


async def a_storm(seed: int, share_lost: float) -> None:
    """Requests that are slow, refused, or whose answers are lost; processes killed and ended."""
    dice = random.Random(seed)
    server = ApiServer()
    stormy = True

    async def weather() -> None:
        await asyncio.sleep(0.001)
        if stormy:
            await asyncio.sleep(dice.choice([0.0, 0.01, 0.5, 2.0]) * dice.random())
            if dice.random() < share_lost:
                raise Unreachable(ASKED, "lost")

    server.weather = weather
    watched = {"everywhere": (), "also": (), "prod": ("prod",), "both": ("dev", "prod")}
    alive = {name: Install(server, name, *namespaces) for name, namespaces in watched.items()}
    over: list[Install] = []
    for step in range(500):
        stormy = step < 400
        await asyncio.sleep(0.5)
        for name in dice.sample(sorted(alive), len(alive)):
            begins = alive[name].try_to_write()
            others = [i for i in (*alive.values(), *over) if i.name != name and i.writing_until > now()]
            assert not (begins and others), f"{name} and {others[0].name} at {now():.1f} s"
        if stormy and dice.random() < 0.04:
            name = dice.choice(sorted(watched))
            if name in alive:
                over.append(alive.pop(name))
                await over[-1].end(give_back=dice.random() < 0.5)
        for name, namespaces in watched.items():
            if name in alive and alive[name].task.done():  # it lost its Lease: the kubelet starts it again
                over.append(alive.pop(name))
                await over[-1].end()
            if name not in alive and (not stormy or dice.random() < 0.1):
                alive[name] = Install(server, name, *namespaces)
    assert len([install for install in alive.values() if install.try_to_write()]) == 1, "in fair weather one works"
    for install in alive.values():
        await install.end()


@settings(max_examples=examples(15), deadline=None)
@given(st.integers(min_value=0, max_value=2**32), st.sampled_from([0.0, 0.05, 0.3]))
def test_whatever_the_weather_no_two_installs_write_at_a_time(seed: int, share_lost: float) -> None:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(a_storm(seed, share_lost))
