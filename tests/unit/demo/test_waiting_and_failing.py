"""A step waits until the cluster says it is done, and fails with what it last heard."""

from __future__ import annotations

import io

import pytest

from demo.narration import Narration, StepFailed, until


async def test_a_step_prints_its_number_and_its_time() -> None:
    out = io.StringIO()
    async with Narration(7, out).step("the local cluster") as step:
        step.say("3 components")
    lines = out.getvalue().splitlines()
    assert lines[0] == " 1/7  the local cluster"
    assert lines[1] == "      3 components"
    assert lines[2].startswith("      done in ")


async def test_a_failed_step_does_not_say_done() -> None:
    out = io.StringIO()
    with pytest.raises(StepFailed, match="etcd: died"):
        async with Narration(7, out).step("the local cluster"):
            raise StepFailed("etcd", "died", "exit code 3")
    assert "done" not in out.getvalue()


async def test_waiting_ends_when_nothing_is_missing() -> None:
    answers = iter(["no pods", "1 of 2 pods ready", None])

    async def probe() -> str | None:
        return next(answers)

    async with Narration(1, io.StringIO()).step("wait") as step:
        await until(probe, step=step, part="engine", within=60, every=0)
    assert next(answers, "used up") == "used up"


async def test_waiting_in_vain_names_what_was_missing() -> None:
    async def probe() -> str | None:
        return "1 of 2 ranks confirm generation 4"

    with pytest.raises(StepFailed, match="still 1 of 2 ranks confirm generation 4"):
        async with Narration(1, io.StringIO()).step("wait") as step:
            await until(probe, step=step, part="threshold", within=0, every=0)
