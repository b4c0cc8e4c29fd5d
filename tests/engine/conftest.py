"""The engine's environment on CPU, and the models and runs that the tests share."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from collected import parameters
from cpu_environment import cpu_environment
from warm import Answers, WarmVllm, alone

CHECKOUT = Path(__file__).parents[2]
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the tests' own torch: threads spin for one that does not run
LONGEST_FIRST = ("serving", "matrix", "unit")
RUN_SECONDS = 560  # a scenario takes 4 to 40 s on two free cores


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where several processes run the tests (pytest-xdist), one of them has all tests of an engine: the scenario or the
    cell that a test names, or a file's. What takes longest begins first, so that they end together."""
    items.sort(key=lambda item: LONGEST_FIRST.index(item.path.parent.name))
    for item in items:
        named = parameters(item)
        item.add_marker(pytest.mark.xdist_group(str(named.get("cell") or named.get("name") or item.path.stem)))


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """Of every engine that the tests start."""
    return cpu_environment()


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes have that run the tests, if several do (pytest-xdist)."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def model(shared: Path, environment: dict[str, str]) -> Path:
    """The example's tiny Llama: 8 query heads, 2 KV heads (P=2: one each, P=4: each on two ranks)."""
    directory, script = shared / "tiny", CHECKOUT / "examples" / "tiny_model.py"
    with alone(shared / "tiny.lock"):
        if not directory.exists():
            command = [sys.executable, script, directory, "--kv-heads", "2"]
            subprocess.run(command, check=True, env=environment, timeout=120)
    return directory


@pytest.fixture(scope="session")
def warm(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmVllm]:
    """vLLM, imported once for all engines but those that start as a container does."""
    process = WarmVllm(environment, tmp_path_factory.mktemp("warm") / "log")
    yield process
    process.close()


Run = Callable[[str], dict[str, Any]]


@pytest.fixture(scope="session")
def run(model: Path, warm: WarmVllm, shared: Path) -> Run:
    """run(name) -> what the scenario of serving/scenarios.py found. Each engine is started once per session."""
    script = Path(__file__).parent / "serving" / "scenarios.py"
    answers = Answers(warm, script, shared / "scenarios", RUN_SECONDS)

    def get(name: str) -> dict[str, Any]:
        return answers.get(name, str(model))[0]

    return get
