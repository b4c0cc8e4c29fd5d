"""What the engines of a cell found, each cell in a process of its own and once per session."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from cells import AnyCell, Played
from warm import Answers, WarmVllm

CELL_SECONDS = 560  # two engines of 6 to 30 s each on two free cores


@pytest.fixture(scope="session")
def played(warm: WarmVllm, tmp_path_factory: pytest.TempPathFactory) -> Played:
    """played(cell) -> what its engine found, with stock vLLM's answers beside it where the cell has stock vLLM run; and
    the log of both."""
    script = Path(__file__).with_name("play.py")
    answers = Answers(warm, script, tmp_path_factory.mktemp("cells"), CELL_SECONDS)

    def get(cell: AnyCell) -> dict[str, Any]:
        found, log = answers.get(type(cell).__name__, json.dumps(dataclasses.asdict(cell)))
        return found | {"log": log}

    return get
