"""When Python's collector of cycles runs.

What Prometheus answers for 1,000 deployments is a third of a million containers that are in no cycle and all gone when
the tick ends. By default the collector walks the whole heap again and again meanwhile: 1.0 s of a tick's 2.4 s of CPU.
Run a hundred times less often it still took 0.25 s of a tick's 1.4 s, and put off until the tick ends 0.01 s of 1.2 s
(benchmarks/decision_loop.py).
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

IN_A_TICK = 1_000_000
"""New containers at which it runs even in a tick. Not never: a look at a Prometheus that hangs lasts as long as the
pause between two looks, so that with several policies some look is always under way."""

_ticks = 0
_otherwise = gc.get_threshold()


def collect_rarely() -> None:
    """Lets the collector walk all objects a hundred times less often than by default. To be called once, at start."""
    gc.freeze()
    gc.set_threshold(20_000, 10, 100)


@contextmanager
def collect_after_the_tick() -> Iterator[None]:
    """Puts the collector off until the last tick that is under way ends.

    By then most of what is new is gone again, and what the tick leaves takes the place of what the one before it left:
    mostly there is no reason for it to run at all. Ticks may overlap; all are of one thread, their event loop's.
    """
    global _ticks, _otherwise
    if _ticks == 0:
        _otherwise = gc.get_threshold()
        gc.set_threshold(IN_A_TICK, *_otherwise[1:])
    _ticks += 1
    try:
        yield
    finally:
        _ticks -= 1
        if _ticks == 0:
            gc.set_threshold(*_otherwise)
