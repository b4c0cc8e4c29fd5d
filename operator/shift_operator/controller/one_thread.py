"""Calls a function that blocks, in one thread beside the event loop, and gives up on it in time.

One thread and not a pool: when Prometheus hangs, a second query would only hang beside the first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, ParamSpec, TypeVar

P = ParamSpec("P")
Result = TypeVar("Result")


class StillBusy(Exception):
    """The call before this one has not returned yet, so this one was not made."""


class OneThread(Generic[P, Result]):
    """`call` as a coroutine function. It needs a timeout of its own, below `seconds`: a thread cannot be stopped."""

    def __init__(self, call: Callable[P, Result], *, seconds: float, name: str) -> None:
        self._call = call
        self._seconds = seconds
        self._name = name
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._running: asyncio.Future[Result] | None = None

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Result:
        """Raises what the call raises, TimeoutError after `seconds`, StillBusy while an earlier call hangs."""
        if self._running is not None and not self._running.done():
            raise StillBusy(f"the {self._name} before this one still hangs")
        loop = asyncio.get_running_loop()
        self._running = loop.run_in_executor(self._executor, lambda: self._call(*args, **kwargs))
        self._running.add_done_callback(_look_at)
        try:
            # Shielded, so that the future tells when the thread is free again.
            return await asyncio.wait_for(asyncio.shield(self._running), self._seconds)
        except TimeoutError:
            raise TimeoutError(f"{self._name} gave no answer within {self._seconds:g} s") from None

    def close(self) -> None:
        """Does not wait for a call that hangs."""
        self._executor.shutdown(wait=False, cancel_futures=True)


def _look_at(future: asyncio.Future[Result]) -> None:
    """A late failure has nobody left to tell; asked for, it is not reported as one that nobody asked for."""
    if not future.cancelled():
        future.exception()
