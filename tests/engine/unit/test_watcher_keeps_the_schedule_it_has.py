"""The schedule file's watcher, on real files; the RPC is a port that each test gives."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from shift_engine.degree import Degree
from shift_engine.schedule import MAX_BYTES, Schedule
from shift_engine.watcher import FileState, ScheduleWatcher

LARGE = Degree(2, 1)
FIRST = Schedule.two_ranges(512, LARGE)


class Ranks:
    """Two ranks that confirm, or fail as often as told."""

    def __init__(self, failures: int = 0) -> None:
        self.applied: list[dict[str, Any]] = []
        self.failures = failures

    async def apply(self, document: dict[str, Any]) -> list[dict[str, int]]:
        if self.failures:
            self.failures -= 1
            raise TimeoutError("a step takes longer than the RPC may")
        self.applied.append(document)
        return [{"rank": rank, "generation": document["generation"], "step": 5} for rank in (0, 1)]


def text(generation: int, threshold: int = 100) -> str:
    return json.dumps(Schedule.two_ranges(threshold, LARGE, generation=generation).to_document())


def watching(path: Path, ranks: Ranks, during: Callable[[ScheduleWatcher], Awaitable[None]]) -> ScheduleWatcher:
    watcher = ScheduleWatcher(path, LARGE, FIRST, ranks.apply)
    asyncio.run(during(watcher))
    return watcher


def test_a_valid_file_is_applied_once(tmp_path: Path) -> None:
    path, ranks = tmp_path / "schedule.json", Ranks()
    path.write_text(text(3))

    async def looks(watcher: ScheduleWatcher) -> None:
        for _ in range(5):
            await watcher.look()
        os.utime(path)
        await watcher.look()

    watcher = watching(path, ranks, looks)
    assert [document["generation"] for document in ranks.applied] == [3]
    assert watcher.report.state is FileState.APPLIED
    assert [rank["generation"] for rank in watcher.confirmations] == [3, 3]


def test_the_same_ranges_with_another_generation_are_confirmed_anew(tmp_path: Path) -> None:
    path, ranks = tmp_path / "schedule.json", Ranks()

    async def looks(watcher: ScheduleWatcher) -> None:
        for generation in (3, 4, 2):
            path.write_text(text(generation))
            await watcher.look()

    watching(path, ranks, looks)
    assert [document["generation"] for document in ranks.applied] == [3, 4, 2]


def test_only_another_layout_of_the_same_document_reaches_no_rank(tmp_path: Path) -> None:
    path, ranks = tmp_path / "schedule.json", Ranks()

    async def looks(watcher: ScheduleWatcher) -> None:
        for content in (text(3), json.dumps(json.loads(text(3)), indent=4)):
            path.write_text(content)
            await watcher.look()

    watching(path, ranks, looks)
    assert len(ranks.applied) == 1


def test_an_rpc_that_failed_is_tried_again_and_counted(tmp_path: Path) -> None:
    path, ranks = tmp_path / "schedule.json", Ranks(failures=2)
    path.write_text(text(3))

    async def looks(watcher: ScheduleWatcher) -> None:
        await watcher.look()
        assert watcher.report.state is FileState.FAILED
        assert "the ranks did not take generation 3: TimeoutError" in (watcher.report.error or "")
        assert watcher.running == FIRST
        await watcher.look()
        await watcher.look()

    watcher = watching(path, ranks, looks)
    assert watcher.report.state is FileState.APPLIED
    assert watcher.report.errors == {"RPC": 2}


def test_a_fault_is_counted_once_and_the_schedule_stays(tmp_path: Path) -> None:
    path, ranks = tmp_path / "schedule.json", Ranks()

    async def looks(watcher: ScheduleWatcher) -> None:
        for content in (text(3), "{", "{", "[", text(3)):
            path.write_text(content)
            await watcher.look()
            await watcher.look()

    watcher = watching(path, ranks, looks)
    assert watcher.report.errors == {"Syntax": 2}
    assert len(ranks.applied) == 1
    assert (watcher.report.state, watcher.report.error) == (FileState.APPLIED, None)


def test_a_file_that_comes_late_and_goes_again(tmp_path: Path) -> None:
    path, ranks, states = tmp_path / "schedule.json", Ranks(), []

    async def looks(watcher: ScheduleWatcher) -> None:
        for content in (None, text(3), None, text(3)):
            if content is None:
                path.unlink(missing_ok=True)
            else:
                path.write_text(content)
            await watcher.look()
            states.append(watcher.report.state)

    watching(path, ranks, looks)
    assert states == [FileState.MISSING, FileState.APPLIED, FileState.MISSING, FileState.APPLIED]
    assert len(ranks.applied) == 1


@pytest.mark.parametrize("kind", ["directory", "pipe", "huge", "unreadable link"])
def test_what_is_no_file_stops_nothing(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "schedule.json"
    match kind:
        case "directory":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "huge":
            path.write_bytes(b" " * (MAX_BYTES * 3))
        case "unreadable link":
            path.symlink_to(path)

    async def looks(watcher: ScheduleWatcher) -> None:
        await asyncio.wait_for(watcher.look(), 20)
        await asyncio.wait_for(watcher.look(), 20)

    watcher = watching(path, Ranks(), looks)
    assert watcher.report.state is FileState.INVALID
    assert watcher.report.errors == {"Syntax": 1}


def test_watching_goes_on_through_everything(tmp_path: Path) -> None:
    path, ranks = tmp_path / "schedule.json", Ranks()

    async def watch(watcher: ScheduleWatcher) -> None:
        task = asyncio.create_task(watcher.watch())
        for content, fault in (("{", "JSON"), (text(2), ""), ("[]", "object"), (text(4), "")):
            path.write_text(content)
            for _ in range(300):
                await asyncio.sleep(0.05)
                if watcher.report.state is (FileState.INVALID if fault else FileState.APPLIED) and (
                    fault in (watcher.report.error or "")
                ):
                    break
            else:
                raise AssertionError(f"{content} was not judged: {watcher.report}")
        task.cancel()

    watching(path, ranks, watch)
    assert [document["generation"] for document in ranks.applied] == [2, 4]
