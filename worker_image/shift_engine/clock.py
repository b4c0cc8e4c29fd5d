"""How long steps take: by the wall clock on CPU, by events read a step late on a GPU, so that nothing synchronises."""

import time
from collections import deque
from typing import Any, Protocol

import torch

from .degree import Degree

Timed = tuple[Degree, int, float]  # a step's degree, its tokens and its seconds


class StepClock(Protocol):
    """Started before a step and stopped after it; gives the steps whose time is known by then."""

    def start(self) -> None: ...
    def stop(self, degree: Degree, tokens: int) -> list[Timed]: ...


class WallClock:
    """For devices that compute synchronously: a step's time is known when it returns."""

    def __init__(self) -> None:
        self._began = 0.0

    def start(self) -> None:
        self._began = time.perf_counter()

    def stop(self, degree: Degree, tokens: int) -> list[Timed]:
        return [(degree, tokens, time.perf_counter() - self._began)]


class EventClock:
    """For streams: an event before and after the step's kernels, asked for (never waited for) at later steps, and then
    used again."""

    def __init__(self) -> None:
        self._began: Any = None
        self._pending: deque[tuple[Degree, int, Any, Any]] = deque()
        self._free: list[Any] = []

    def start(self) -> None:
        self._began = self._recorded()

    def stop(self, degree: Degree, tokens: int) -> list[Timed]:
        self._pending.append((degree, tokens, self._began, self._recorded()))
        known: list[Timed] = []
        while self._pending and self._pending[0][3].query():
            ran, n, began, end = self._pending.popleft()
            known.append((ran, n, began.elapsed_time(end) / 1000))
            self._free += (began, end)
        return known

    def _recorded(self) -> Any:
        event = self._free.pop() if self._free else torch.cuda.Event(enable_timing=True)
        event.record()
        return event


def step_clock(device: torch.device) -> StepClock:
    """The clock of a device."""
    return EventClock() if device.type == "cuda" else WallClock()
