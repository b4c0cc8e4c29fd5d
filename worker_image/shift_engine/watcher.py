"""The schedule file, watched in the API process and handed to all ranks by `collective_rpc`.

A kubelet swaps a ConfigMap volume by renaming the symlink `..data`, so the path stays and what it leads to changes; the
watcher looks at the file itself twice a second rather than at directory events, which also sees plain writes.
"""

import asyncio
import contextlib
import logging
import os
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from .degree import Degree
from .schedule import MAX_BYTES, Schedule, ScheduleError, read_schedule

logger = logging.getLogger("vllm.shift_engine.watcher")

POLL_SECONDS = 0.5
RETRY_SECONDS = 2.0  # after an RPC that failed
RPC_SECONDS = 60.0  # a step in progress comes first

Apply = Callable[[dict[str, Any]], Awaitable[list[dict[str, int]]]]  # the RPC: document -> each rank's confirmation


class FileState(StrEnum):
    """`file.state` of GET /shift."""

    NONE = "None"  # no file was asked for
    MISSING = "Missing"
    APPLIED = "Applied"
    INVALID = "Invalid"  # refused whole; the schedule before it stays
    FAILED = "Failed"  # valid, but a rank did not take it yet


RPC_FAULT = "RPC"  # beside the ScheduleFaults, in `shift_schedule_errors_total`


@dataclass
class FileReport:
    """What GET /shift and the metrics say of the file."""

    state: FileState = FileState.NONE
    generation: int | None = None  # the newest valid one that was read
    error: str | None = None
    errors: Counter[str] = field(default_factory=Counter)  # by reason


class ScheduleWatcher:
    """Applies each valid content that differs from what the ranks run; keeps the old schedule otherwise."""

    def __init__(self, path: Path, large: Degree, running: Schedule, apply: Apply) -> None:
        """`running` is the schedule of the start-up flags, `large` the degree the engine was started with."""
        self.report = FileReport()
        self.running = running
        self.confirmations: list[dict[str, int]] = []  # of the last schedule applied
        self._path = path
        self._large = large
        self._apply = apply
        self._seen: object = None  # the content last judged; None after a failed RPC, so that it is judged again

    async def watch(self) -> None:
        """For ever: look, then sleep. Nothing that a file or an RPC does ends it."""
        while True:
            await self.look()
            await asyncio.sleep(RETRY_SECONDS if self.report.state is FileState.FAILED else POLL_SECONDS)

    async def look(self) -> None:
        """Read the file once, and apply or refuse what is new."""
        try:
            content = await asyncio.to_thread(_read, self._path)
        except FileNotFoundError:
            self._seen = None
            self._say(FileState.MISSING, None)
            return
        except OSError as error:
            self._refuse("Syntax", f"{self._path}: {error.strerror}", seen=error.strerror)
            return
        if content == self._seen:
            return
        try:
            schedule = read_schedule(content, self._large)
        except ScheduleError as error:
            self._refuse(error.fault, str(error), seen=content)
            return
        self.report.generation = schedule.generation
        await self._hand_over(schedule, content)

    async def _hand_over(self, schedule: Schedule, content: bytes) -> None:
        if schedule != self.running:
            try:
                self.confirmations = await asyncio.wait_for(self._apply(schedule.to_document()), RPC_SECONDS)
            except Exception as error:  # whatever the engine raises: it serves on, and we try again
                self.report.errors[RPC_FAULT] += 1
                self._say(FileState.FAILED, f"the ranks did not take generation {schedule.generation}: {_named(error)}")
                return
            self.running = schedule
            logger.info("schedule applied generation=%d ranges=%d", schedule.generation, len(schedule.ranges))
        self._seen = content
        self._say(FileState.APPLIED, None)

    def _refuse(self, reason: str, sentence: str, *, seen: object) -> None:
        if seen != self._seen:  # count each content once, not twice a second
            self.report.errors[str(reason)] += 1
        self._seen = seen
        self._say(FileState.INVALID, sentence)

    def _say(self, state: FileState, error: str | None) -> None:
        if error is not None and error != self.report.error:
            logger.warning("schedule file %s path=%s error=%s", state.lower(), self._path, error)
        self.report.state, self.report.error = state, error


def _read(path: Path) -> bytes:
    """At most a byte more than a schedule may have: a device or a huge file must not stop the API process."""
    # Non-blocking: opening a pipe that nobody writes to would hang a thread for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with contextlib.suppress(BlockingIOError):
            return os.read(descriptor, MAX_BYTES + 1)
        return b""
    finally:
        os.close(descriptor)


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
