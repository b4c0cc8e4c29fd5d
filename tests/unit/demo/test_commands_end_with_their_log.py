"""A failed command says which, how it ended and its last lines; one that hangs is ended with its children."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from demo.commands import run
from demo.leftovers import processes_of
from demo.narration import StepFailed


async def test_output_is_returned() -> None:
    assert await run("sh", "-c", "echo out; echo err >&2", part="sh", variables=os.environ, within=10) == "out\nerr"


async def test_a_failure_has_exit_code_and_last_lines() -> None:
    with pytest.raises(StepFailed, match="exit code 3") as failure:
        await run("sh", "-c", "echo one; echo the cause; exit 3", part="etcd", variables=os.environ, within=10)
    assert failure.value.part == "etcd"
    assert failure.value.log.endswith("the cause")


async def test_a_hanging_command_is_ended_with_its_children(tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match="took longer than"):
        await run("sh", "-c", "sleep 60 & sleep 60", part="sh", variables=os.environ, within=0.5, cwd=tmp_path)
    assert processes_of(tmp_path) == []


async def test_input_is_handed_over() -> None:
    assert await run("cat", part="cat", variables=os.environ, within=10, stdin="prompts") == "prompts"
