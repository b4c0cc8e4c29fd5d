"""What the engines of a cell found, each engine in a process of its own and once per session."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from cells import SUBSET, AnyCell, Played
from collected import parameters
from warm import Answers, WarmVllm

ENGINE_SECONDS = 560  # 6 to 30 s on two free cores


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the cells that `make test-engine` does not play."""
    for item in items:
        named = parameters(item)
        if "cell" in named and named["cell"] not in SUBSET:
            item.add_marker(pytest.mark.full)


@pytest.fixture(scope="session")
def played(warm: WarmVllm, shared: Path) -> Played:
    """played(cell) -> what its engine found, with stock vLLM's answers beside it where the cell has stock vLLM run; and
    the logs of both."""
    script = Path(__file__).with_name("play.py")
    answers = Answers(warm, script, shared / "cells", ENGINE_SECONDS)

    def get(cell: AnyCell) -> dict[str, Any]:
        found: dict[str, Any] = {"log": ""}
        for stock in cell.engines:
            which = "stock" if stock else "ours"
            answer, log = answers.get(type(cell).__name__, json.dumps(dataclasses.asdict(cell)), which)
            found |= answer | {"log": found["log"] + log}
        return found

    return get
