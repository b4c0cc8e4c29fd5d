"""The engine's environment on CPU, and the models and runs that the tests share."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).parents[2]
RUN_SECONDS = 280  # an engine on CPU starts in 30 to 90 s


def cpu_environment() -> dict[str, str]:
    """The process's environment with what worker_image/cpu.env sets."""
    lines = (CHECKOUT / "worker_image" / "cpu.env").read_text().splitlines()
    pairs = (line.split("=", 1) for line in lines if line and not line.startswith("#"))
    return dict(os.environ) | dict(pairs)


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


Run = Callable[[str], dict[str, Any]]


@pytest.fixture(scope="session")
def run(model: Path, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """run(name) -> what the scenario of serving/scenarios.py found. Each engine is started once per session."""
    found: dict[str, dict[str, Any]] = {}
    script = Path(__file__).parent / "serving" / "scenarios.py"

    def get(name: str) -> dict[str, Any]:
        if name not in found:
            directory = tmp_path_factory.mktemp(name.replace(" ", "-"))
            with (directory / "log").open("w") as log:
                subprocess.run(
                    [sys.executable, script, name, model, directory / "found.json"],
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    timeout=RUN_SECONDS,
                )
            answer = directory / "found.json"
            assert answer.exists(), f"{name} ended early:\n" + (directory / "log").read_text()[-4000:]
            found[name] = json.loads(answer.read_text())
        return found[name]

    return get
