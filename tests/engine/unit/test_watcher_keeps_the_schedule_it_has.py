"""The schedule file's watcher, on real files; the RPC is a port that each test gives."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from shift_engine.degree import Degree, DegreeReport, DegreeState
from shift_engine.schedule import MAX_BYTES, Schedule, ScheduleFault
from shift_engine.watcher import FileState, ScheduleWatcher

LARGE = Degree(2, 1)
FIRST = Schedule.two_ranges(512, LARGE)


class Ranks:
    """Two ranks that confirm, or fail as often as told; `built` says what becomes of a degree that is asked for."""

    def __init__(self, failures: int = 0, built: DegreeState = DegreeState.LOADED) -> None:
        self.applied: list[Schedule] = []
        self.failures = failures
        self.degrees = {
            Degree(1, 2): DegreeReport(Degree(1, 2), DegreeState.LOADED),
            LARGE: DegreeReport(LARGE, DegreeState.LOADED),
        }
        self.builds: list[Degree] = []
        self._built = built

    async def build(self, degree: Degree) -> None:
        self.builds.append(degree)
        reason = None if self._built is DegreeState.LOADED else "a rank needs 9 MiB"
        self.degrees[degree] = DegreeReport(degree, self._built, reason)

    async def apply(self, schedule: Schedule) -> list[dict[str, int]]:
        if self.failures:
            self.failures -= 1
            raise TimeoutError("a step takes longer than the RPC may")
        self.applied.append(schedule)
        return [{"rank": rank, "generation": schedule.generation, "step": 5} for rank in (0, 1)]

    @property
    def generations(self) -> list[int]:
        return [schedule.generation for schedule in self.applied]


def text(generation: int, threshold: int = 100) -> str:
    return json.dumps(Schedule.two_ranges(threshold, LARGE, generation=generation).to_document())


def watching(path: Path, ranks: Ranks, during: Callable[[ScheduleWatcher], Awaitable[None]]) -> ScheduleWatcher:
    watcher = ScheduleWatcher(path, ranks, FIRST, started_with=(LARGE,), max_tokens=2048)
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
    assert ranks.generations == [3]
    assert watcher.report.state is FileState.APPLIED
    assert [rank["generation"] for rank in watcher.confirmations] == [3, 3]


@pytest.mark.parametrize(("failures", "then"), [(0, FileState.APPLIED), (1, FileState.FAILED)])
def test_the_report_names_a_generation_only_with_what_became_of_it(
    tmp_path: Path, failures: int, then: FileState
) -> None:
    """Whoever reads "Applied" and the new generation together must find that all ranks have it."""
    path, ranks = tmp_path / "schedule.json", Ranks()
    seen: list[tuple[FileState, int | None]] = []

    async def looks(watcher: ScheduleWatcher) -> None:
        path.write_text(text(3))
        await watcher.look()
        confirm = ranks.apply

        async def apply(schedule: Schedule) -> list[dict[str, int]]:
            seen.append((watcher.report.state, watcher.report.generation))
            return await confirm(schedule)

        ranks.apply, ranks.failures = apply, failures  # type: ignore[method-assign]
        path.write_text(text(4))
        await watcher.look()
        seen.append((watcher.report.state, watcher.report.generation))

    watching(path, ranks, looks)
    assert seen == [(FileState.APPLIED, 3), (then, 4)]


def test_the_same_ranges_with_another_generation_are_confirmed_anew(tmp_path: Path) -> None:
    path, ranks = tmp_path / "schedule.json", Ranks()

    async def looks(watcher: ScheduleWatcher) -> None:
        for generation in (3, 4):
            path.write_text(text(generation))
            await watcher.look()

    watching(path, ranks, looks)
    assert ranks.generations == [3, 4]


def test_an_older_generation_is_refused_and_a_repaired_one_is_applied(tmp_path: Path) -> None:
    """A hand that edits the ConfigMap need not raise the generation, nor the operator that puts it right again."""
    path, ranks = tmp_path / "schedule.json", Ranks()

    async def looks(watcher: ScheduleWatcher) -> None:
        for content in (text(3, 100), text(3, 50), text(3, 100), text(2, 100)):
            path.write_text(content)
            await watcher.look()
        assert (watcher.report.state, watcher.report.reason) == (FileState.INVALID, ScheduleFault.GENERATION)
        assert "2 is older than 3, which runs" in (watcher.report.error or "")
        path.write_text(text(4))
        await watcher.look()

    watcher = watching(path, ranks, looks)
    assert ranks.generations == [3, 3, 3, 4]
    assert (watcher.report.state, watcher.report.reason) == (FileState.APPLIED, None)
    assert watcher.report.errors == {ScheduleFault.GENERATION: 1}


def test_a_buildable_degree_is_built_before_its_schedule_is_applied(tmp_path: Path) -> None:
    path, ranks = tmp_path / "schedule.json", Ranks()
    ranks.degrees[LARGE] = DegreeReport(LARGE, DegreeState.BUILDABLE)
    path.write_text(text(3))

    async def looks(watcher: ScheduleWatcher) -> None:
        await watcher.look()
        await watcher.look()

    watcher = watching(path, ranks, looks)
    assert (ranks.builds, ranks.generations) == ([LARGE], [3])
    assert watcher.report.state is FileState.APPLIED
    assert watcher.report.building is None


def test_a_degree_that_cannot_be_built_is_tried_once_and_said_to_need_a_restart(tmp_path: Path) -> None:
    path, ranks = tmp_path / "schedule.json", Ranks(built=DegreeState.NEEDS_RESTART)
    ranks.degrees[LARGE] = DegreeReport(LARGE, DegreeState.BUILDABLE)

    async def looks(watcher: ScheduleWatcher) -> None:
        for generation in (3, 4):
            path.write_text(text(generation))
            await watcher.look()
            await watcher.look()

    watcher = ScheduleWatcher(path, ranks, FIRST, started_with=(), max_tokens=2048)
    asyncio.run(looks(watcher))
    assert (ranks.builds, ranks.applied) == ([LARGE], [])
    assert (watcher.report.state, watcher.report.reason) == (FileState.INVALID, ScheduleFault.NEEDS_RESTART)
    assert "needs a restart with --shift-degree 2x1 (a rank needs 9 MiB)" in (watcher.report.error or "")
    assert watcher.report.errors == {ScheduleFault.NEEDS_RESTART: 2}
    assert watcher.running == FIRST


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
        assert watcher.report.reason is ScheduleFault.RPC
        assert "the ranks did not take the schedule: TimeoutError" in (watcher.report.error or "")
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
    assert ranks.generations == [2, 4]
