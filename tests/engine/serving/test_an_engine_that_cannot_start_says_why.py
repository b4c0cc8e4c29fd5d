"""The termination message: one sentence with the true cause, and an exit code that is not 0."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

SHIFT_ENGINE = Path(sys.executable).with_name("shift-engine")


@dataclass
class Ended:
    """An engine that is gone."""

    code: int
    log: str
    message: str  # the container's termination message


Serve = Callable[..., Ended]


@pytest.fixture
def serve(environment: dict[str, str], tmp_path: Path) -> Serve:
    """serve(model, *flags) -> how the engine ended."""

    def run(model: Path, *flags: str) -> Ended:
        command = [
            SHIFT_ENGINE,
            "serve",
            model,
            "--dtype",
            "float32",
            "--enforce-eager",
            "--host",
            "127.77.0.6",
            *flags,
        ]
        end, log = tmp_path / "end", tmp_path / "log"
        with log.open("w") as out:
            process = subprocess.Popen(
                command,
                env=environment | {"SHIFT_TERMINATION_LOG": str(end)},
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            code = process.wait(280)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)
        return Ended(code, log.read_text(), end.read_text())

    return run


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--shift-degree", "2x2", "--tensor-parallel-size", "2"], "2 x tensor 2 is 4, --tensor-parallel-size is 2"),
        (["--tensor-parallel-size", "2", "--worker-cls", "a.B"], "--worker-cls a.B: the shift engine brings its own"),
    ],
)
def test_flags_that_cannot_work_together(serve: Serve, model: Path, flags: list[str], said: str) -> None:
    ended = serve(model, *flags)
    assert ended.code == 2
    assert said in ended.message
    assert said in ended.log


def test_a_model_that_is_not_there(serve: Serve, tmp_path: Path) -> None:
    ended = serve(tmp_path / "no-model")
    assert ended.code == 1
    assert ended.message.startswith("the engine did not start: ")
    assert "no-model" in ended.message
    assert ended.message.strip() in ended.log


def test_weights_that_do_not_load_name_the_workers_error(serve: Serve, model: Path, tmp_path: Path) -> None:
    """The cause lies in a worker process; vLLM's API process only learns that the engine core failed."""
    broken = tmp_path / "broken"
    shutil.copytree(model, broken)
    (broken / "model.safetensors").write_bytes(b"these are no weights")
    ended = serve(broken)
    assert ended.code == 1
    assert "root cause" not in ended.message
    assert "SafetensorError" in ended.message
    assert len(ended.message.splitlines()) == 1
