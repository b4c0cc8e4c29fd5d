"""Saying what goes on: a timer that counts on a terminal, plain lines everywhere else."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Protocol, TextIO

NAME_WIDTH = 26
REDRAW_SECONDS = 0.1


class Progress(Protocol):
    """Told of each step as it begins; the context's end is the step's end, an exception its failure."""

    def step(self, name: str) -> AbstractContextManager[None]: ...


class Silent:
    """For tests and libraries."""

    def step(self, name: str) -> AbstractContextManager[None]:
        return contextlib.nullcontext()


class Console:
    """Writes to a terminal or a log. `announce` writes a plain line at a step's begin too: for steps of minutes."""

    def __init__(self, out: TextIO, *, announce: bool = False) -> None:
        self._out, self._announce = out, announce
        self._tty = out.isatty()

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        if self._announce and not self._tty:
            self._line(f"{name} ...")
        over = threading.Event()
        timer = threading.Thread(target=self._count, args=(name, started, over), daemon=True)
        if self._tty:
            timer.start()
        outcome = "failed after "
        try:
            yield
            outcome = ""
        finally:
            over.set()
            if self._tty:
                timer.join()
            self._line(f"{name:<{NAME_WIDTH}} {outcome}{time.monotonic() - started:.1f} s")

    def _count(self, name: str, started: float, over: threading.Event) -> None:
        while not over.wait(REDRAW_SECONDS):
            self._out.write(f"\r\x1b[K{name:<{NAME_WIDTH}} {time.monotonic() - started:.0f} s ...")
            self._out.flush()

    def _line(self, text: str) -> None:
        self._out.write(f"\r\x1b[K{text}\n" if self._tty else f"{text}\n")
        self._out.flush()
