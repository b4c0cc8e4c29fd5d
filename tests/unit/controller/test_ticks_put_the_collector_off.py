"""Python's collector of cycles while the decision loop ticks. That it costs less is benchmarks/decision_loop.py's."""

import asyncio
import gc
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from shift_operator.controller.garbage import IN_A_TICK, collect_after_the_tick
from shift_operator.controller.prometheus_signals import Sighting

from tests.unit.controller.test_the_loop_holds_what_it_cannot_see import Scene

OnVirtualTime = Callable[[Coroutine[Any, Any, Any]], Any]
OTHERWISE = (20_000, 10, 100)


@pytest.fixture(autouse=True)
def _thresholds() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(*OTHERWISE)
    yield
    gc.set_threshold(*before)


def test_a_tick_puts_it_off_and_the_end_of_the_tick_brings_it_back() -> None:
    with collect_after_the_tick():
        assert gc.get_threshold() == (IN_A_TICK, *OTHERWISE[1:])
    assert gc.get_threshold() == OTHERWISE


def test_a_tick_that_fails_brings_it_back() -> None:
    with pytest.raises(ValueError, match="a bug"), collect_after_the_tick():
        raise ValueError("a bug")
    assert gc.get_threshold() == OTHERWISE


def test_of_ticks_that_overlap_the_last_one_brings_it_back(on_virtual_time: OnVirtualTime) -> None:
    seen = {}

    async def tick(begin: float, end: float) -> None:
        await asyncio.sleep(begin)
        with collect_after_the_tick():
            await asyncio.sleep(end - begin)
        seen[end] = gc.get_threshold()

    async def ticks() -> None:
        await asyncio.gather(tick(0, 2), tick(1, 3), tick(4, 5))

    on_virtual_time(ticks())
    late = (IN_A_TICK, *OTHERWISE[1:])
    assert seen == {2: late, 3: OTHERWISE, 5: OTHERWISE}


def test_it_is_put_off_while_the_loop_looks(on_virtual_time: OnVirtualTime) -> None:
    seen = []

    async def look(at: float, asked: Any) -> Sighting:
        seen.append(gc.get_threshold()[0])
        return Sighting({})

    async def tick() -> None:
        await Scene(look).loop.tick()

    on_virtual_time(tick())
    assert seen == [IN_A_TICK]
    assert gc.get_threshold() == OTHERWISE
