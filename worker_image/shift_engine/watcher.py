"""The schedule file, watched in the API process and handed to all ranks by `collective_rpc`.

A kubelet swaps a ConfigMap volume by renaming the symlink `..data`, so the path stays and what it leads to changes; the
watcher looks at the file itself twice a second rather than at directory events, which also sees plain writes.
"""

import asyncio
import contextlib
import logging
import os
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from .degree import Degree, DegreeReport, DegreeState
from .schedule import MAX_BYTES, Schedule, ScheduleError, ScheduleFault, ScheduleRules, check_schedule, read_schedule

logger = logging.getLogger("vllm.shift_engine.watcher")

POLL_SECONDS = 0.5
RETRY_SECONDS = 2.0  # after an RPC that failed
RPC_SECONDS = 60.0  # a step in progress comes first


class Ranks(Protocol):
    """What the watcher asks of the engine; each call reaches all ranks between the same two steps."""

    @property
    def degrees(self) -> Mapping[Degree, DegreeReport]:
        """Every degree of P GPUs, as it stands."""
        ...

    async def build(self, degree: Degree) -> None:
        """Have a buildable degree built; `degrees` then tells how it went."""
        ...

    async def apply(self, schedule: Schedule) -> list[dict[str, int]]:
        """Run by a schedule. -> each rank's confirmation."""
        ...


class FileState(StrEnum):
    """`file.state` of GET /shift."""

    NONE = "None"  # no file was asked for
    MISSING = "Missing"
    BUILDING = "Building"  # valid; a degree that it names is being built
    APPLIED = "Applied"
    INVALID = "Invalid"  # refused whole; the schedule before it stays
    FAILED = "Failed"  # valid, but a rank did not take it yet


@dataclass
class FileReport:
    """What GET /shift and the metrics say of the file."""

    state: FileState = FileState.NONE
    generation: int | None = None  # of the last valid file that was handed to the ranks
    reason: ScheduleFault | None = None
    error: str | None = None
    errors: Counter[ScheduleFault] = field(default_factory=Counter)
    building: Degree | None = None


class ScheduleWatcher:
    """Applies each valid content that differs from what the ranks run; keeps the old schedule otherwise."""

    def __init__(
        self, path: Path, ranks: Ranks, running: Schedule, *, started_with: Collection[Degree], max_tokens: int
    ) -> None:
        """`running` is the schedule that the ranks began with, `max_tokens` vLLM's max_num_batched_tokens."""
        self.report = FileReport()
        self.running = running
        self.confirmations: list[dict[str, int]] = []  # of the last schedule applied
        self._path = path
        self._ranks = ranks
        self._started_with = started_with
        self._max_tokens = max_tokens
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
            self._say(FileState.MISSING)
            return
        except OSError as error:
            fault = ScheduleError(ScheduleFault.SYNTAX, f"{self._path}: {error.strerror}")
            self._refuse(fault, seen=error.strerror)
            return
        if content == self._seen:
            return
        schedule = None
        try:
            schedule = read_schedule(content, self._rules())
            await self._hand_over(schedule)
        except ScheduleError as error:
            self._refuse(error, seen=content)
        except Exception as error:  # whatever the engine raises: it serves on, and we try again
            self.report.errors[ScheduleFault.RPC] += 1
            sentence = f"the ranks did not take the schedule: {_named(error)}"
            self._say(FileState.FAILED, ScheduleError(ScheduleFault.RPC, sentence), schedule)
        else:
            self._seen = content
            self._say(FileState.APPLIED, schedule=schedule)

    def _rules(self) -> ScheduleRules:
        return ScheduleRules(self._ranks.degrees, self._started_with, self._max_tokens, self.running.generation)

    async def _hand_over(self, schedule: Schedule) -> None:
        """Build what lacks, then apply. Raises ScheduleError where a degree cannot be had after all."""
        if await self._build_what_lacks(schedule):
            check_schedule(schedule.to_document(), self._rules())
        if schedule == self.running:
            return
        self.confirmations = await asyncio.wait_for(self._ranks.apply(schedule), RPC_SECONDS)
        self.running = schedule
        logger.info("schedule applied generation=%d ranges=%d", schedule.generation, len(schedule.ranges))

    async def _build_what_lacks(self, schedule: Schedule) -> bool:
        """-> whether anything was built, or was tried to be."""
        lacking = [d for d in sorted(schedule.degrees) if self._ranks.degrees[d].state is DegreeState.BUILDABLE]
        for degree in lacking:
            self.report.building = degree
            self._say(FileState.BUILDING)
            try:
                await self._ranks.build(degree)  # without a limit: an answer that nobody waits for would be lost
            finally:
                self.report.building = None
        return bool(lacking)

    def _refuse(self, error: ScheduleError, *, seen: object) -> None:
        if seen != self._seen:  # count each content once, not twice a second
            self.report.errors[error.fault] += 1
        self._seen = seen
        self._say(FileState.INVALID, error)

    def _say(self, state: FileState, error: ScheduleError | None = None, schedule: Schedule | None = None) -> None:
        """All at once: `state` is what became of the file with this generation."""
        sentence = None if error is None else str(error)
        if error is not None and sentence != self.report.error:
            logger.warning(
                "schedule file %s path=%s reason=%s error=%s", state.lower(), self._path, error.fault, sentence
            )
        self.report.state, self.report.error = state, sentence
        self.report.reason = None if error is None else error.fault
        if schedule is not None:
            self.report.generation = schedule.generation


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
