"""How long steps take: by the wall clock on CPU, by events read some steps later on a GPU, so that nothing waits."""

import time
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import torch

CurrentStream: TypeAlias = Callable[[], Any]  # what kernels are launched on; torch's own takes 5 us, says vLLM


class StepClock(Protocol):
    """Read before and after each step; what lies between two readings may be known later only."""

    def now(self) -> Any: ...

    def seconds(self, began: Any, ended: Any) -> float | None:
        """The time between two readings, None while it is not known. Known, it is not asked for again."""


class WallClock:
    """For devices that compute synchronously: a step's time is known when it returns."""

    now = staticmethod(time.perf_counter)

    def seconds(self, began: float, ended: float) -> float:
        return ended - began


class EventClock:
    """For streams: a reading is an event among the kernels. It is asked for, never waited for, and then used again."""

    def __init__(self, current_stream: CurrentStream) -> None:
        self._current_stream = current_stream
        self._free: list[Any] = []

    def now(self) -> Any:
        event = self._free.pop() if self._free else torch.cuda.Event(enable_timing=True)
        event.record(self._current_stream())
        return event

    def seconds(self, began: Any, ended: Any) -> float | None:
        if not ended.query():
            return None
        milliseconds: float = began.elapsed_time(ended)
        self._free += (began, ended)
        return milliseconds / 1000


def step_clock(device: torch.device, current_stream: CurrentStream) -> StepClock:
    """The clock of a device."""
    return EventClock(current_stream) if device.type == "cuda" else WallClock()
