"""Blocking calls beside the event loop."""

import asyncio
import threading

import pytest
from shift_operator.controller.one_thread import OneThread, StillBusy


async def test_a_call_returns_or_raises_as_it_would_have() -> None:
    thread = OneThread(int, seconds=5, name="query")
    assert await thread("7") == 7
    with pytest.raises(ValueError, match="invalid literal"):
        await thread("seven")
    thread.close()


async def test_a_call_that_hangs_is_given_up_and_no_second_one_is_made_beside_it() -> None:
    free, calls = threading.Event(), []

    def call(number: int) -> int:
        calls.append(number)
        free.wait(10)
        return number

    thread = OneThread(call, seconds=0.05, name="query")
    with pytest.raises(TimeoutError, match=r"query gave no answer within 0\.05 s"):
        await thread(1)
    with pytest.raises(StillBusy, match="the query before this one still hangs"):
        await thread(2)
    free.set()
    while True:
        try:
            assert await thread(3) == 3
            break
        except StillBusy:
            await asyncio.sleep(0.01)
    assert calls == [1, 3]
    thread.close()
