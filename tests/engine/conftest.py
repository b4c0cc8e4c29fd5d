"""The engine's environment on CPU, and the models and runs that the tests share."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cpu_environment import cpu_environment
from warm import Answers, WarmVllm

CHECKOUT = Path(__file__).parents[2]
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the tests' own torch: threads spin for one that does not run
RUN_SECONDS = 280  # an engine on CPU starts in 30 to 90 s


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """Of every engine that the tests start."""
    return cpu_environment()


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Path:
    """The example's tiny Llama: 8 query heads, 2 KV heads (P=2: one each, P=4: each on two ranks)."""
    directory = tmp_path_factory.mktemp("model") / "tiny"
    script = CHECKOUT / "examples" / "tiny_model.py"
    subprocess.run([sys.executable, script, directory, "--kv-heads", "2"], check=True, env=environment, timeout=120)
    return directory


@pytest.fixture(scope="session")
def warm(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmVllm]:
    """vLLM, imported once for all cells of the matrix and all scenarios."""
    process = WarmVllm(environment, tmp_path_factory.mktemp("warm") / "log")
    yield process
    process.close()


def run_to_the_end(command: list[str], environment: dict[str, str], log: Path, seconds: float) -> int:
    """Run a command in a process group of its own. -> its exit code. Whatever ends the wait, a test's own timeout too,
    ends the group: a rank whose peers are gone spins in its collective for ever."""
    with log.open("w") as out:
        process = subprocess.Popen(
            command, env=environment, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        return process.wait(seconds)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


Run = Callable[[str], dict[str, Any]]


@pytest.fixture(scope="session")
def run(model: Path, warm: WarmVllm, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """run(name) -> what the scenario of serving/scenarios.py found. Each engine is started once per session."""
    script = Path(__file__).parent / "serving" / "scenarios.py"
    answers = Answers(warm, script, tmp_path_factory.mktemp("scenarios"), RUN_SECONDS)

    def get(name: str) -> dict[str, Any]:
        return answers.get(name, str(model))[0]

    return get
