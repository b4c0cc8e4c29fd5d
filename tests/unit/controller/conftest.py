"""Virtual time: an event loop on which an hour of pauses passes at once."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any

import pytest


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Where a real loop would sleep until its next timer, this one moves its clock there. No socket wakes it."""

    def __init__(self) -> None:
        super().__init__(_InstantSelector(self))
        self.virtual_seconds = 0.0

    def time(self) -> float:
        return self.virtual_seconds


class _InstantSelector(selectors.SelectSelector):
    def __init__(self, loop: VirtualTimeLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("nothing is due any more: this test would wait for ever")
        self._loop.virtual_seconds += timeout
        return super().select(0)


@pytest.fixture
def on_virtual_time() -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Runs a coroutine to its end on virtual time and returns its result."""

    def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            return runner.run(coroutine)

    return run
