"""What the demo tells while it runs: a line per step with its time, a live line while it waits, a report on failure."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TextIO

# How often a waiting step speaks where no terminal can show a live line.
PLAIN_INTERVAL_SECONDS = 10.0
LIVE_INTERVAL_SECONDS = 0.2


class StepFailed(Exception):
    """A step could not do its job: `part` is what failed, `log` the last lines it wrote."""

    def __init__(self, part: str, why: str, log: str = "") -> None:
        super().__init__(f"{part}: {why}")
        self.part = part
        self.why = why
        self.log = log


class Step:
    """One step of the demo while it runs. `now` is what it waits for at the moment."""

    def __init__(self, title: str, out: TextIO) -> None:
        self.title = title
        self.now = ""
        self._out = out
        self._live = out.isatty()
        self._started = time.monotonic()
        self._line_shown = False

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    def say(self, text: str) -> None:
        """Print a line that stays."""
        self._clear()
        for line in text.splitlines() or [""]:
            print(f"      {line}", file=self._out, flush=True)

    async def watch(self) -> None:
        """Show `now` with the elapsed seconds until cancelled."""
        spoken = ""
        last = self._started
        while True:
            await asyncio.sleep(LIVE_INTERVAL_SECONDS)
            if self._live:
                self._clear()
                self._out.write(f"      {self.seconds:5.0f} s  {self.now}"[:118])
                self._out.flush()
                self._line_shown = True
            elif self.now and (self.now != spoken or time.monotonic() - last >= PLAIN_INTERVAL_SECONDS):
                print(f"      {self.seconds:5.0f} s  {self.now}", file=self._out, flush=True)
                spoken, last = self.now, time.monotonic()

    def _clear(self) -> None:
        if self._line_shown:
            self._out.write("\r\x1b[2K")
            self._line_shown = False

    def close(self) -> None:
        self._clear()


class Narration:
    """Numbers the steps and keeps their times for the report."""

    def __init__(self, steps: int, out: TextIO | None = None) -> None:
        self._steps = steps
        self._out = out or sys.stdout
        self.seconds: dict[str, float] = {}

    @contextlib.asynccontextmanager
    async def step(self, title: str) -> AsyncIterator[Step]:
        number = len(self.seconds) + 1
        print(f"{number:>2}/{self._steps}  {title}", file=self._out, flush=True)
        step = Step(title, self._out)
        watcher = asyncio.create_task(step.watch())
        try:
            yield step
        finally:
            watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watcher
            step.close()
            self.seconds[title] = step.seconds
        print(f"      done in {step.seconds:.1f} s", file=self._out, flush=True)


async def until(
    probe: Callable[[], Awaitable[str | None]], *, step: Step, part: str, within: float, every: float = 0.5
) -> None:
    """Wait until `probe` answers None; what it answers instead is what is still missing, and is shown.

    Raises StepFailed with the last answer after `within` seconds.
    """
    deadline = time.monotonic() + within
    while (missing := await probe()) is not None:
        step.now = missing
        if time.monotonic() > deadline:
            raise StepFailed(part, f"after {within:.0f} s still {missing}")
        await asyncio.sleep(every)
    step.now = ""
