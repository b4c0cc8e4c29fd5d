"""The termination message: one sentence with the true cause, and an exit code that is not 0."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SHIFT_ENGINE = Path(sys.executable).with_name("shift-engine")


def serve(model: Path, environment: dict[str, str], end: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SHIFT_ENGINE, "serve", model, "--dtype", "float32", "--enforce-eager", "--host", "127.77.0.6", *flags],
        env=environment | {"SHIFT_TERMINATION_LOG": str(end)},
        capture_output=True,
        text=True,
        timeout=200,
    )


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--shift-degree", "2x2", "--tensor-parallel-size", "2"], "2 x tensor 2 is 4, --tensor-parallel-size is 2"),
        (["--tensor-parallel-size", "2", "--worker-cls", "a.B"], "--worker-cls a.B: the shift engine brings its own"),
    ],
)
def test_flags_that_cannot_work_together(
    model: Path, environment: dict[str, str], tmp_path: Path, flags: list[str], said: str
) -> None:
    ended = serve(model, environment, tmp_path / "end", *flags)
    assert ended.returncode == 2
    assert said in ended.stderr
    assert said in (tmp_path / "end").read_text()


def test_a_model_that_is_not_there(environment: dict[str, str], tmp_path: Path) -> None:
    ended = serve(tmp_path / "no-model", environment, tmp_path / "end")
    message = (tmp_path / "end").read_text()
    assert ended.returncode == 1
    assert message.startswith("the engine did not start: ")
    assert "no-model" in message
    assert message.strip() in ended.stderr


def test_weights_that_do_not_load_name_the_workers_error(
    model: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    """The cause lies in a worker process; vLLM's API process only learns that the engine core failed."""
    broken = tmp_path / "broken"
    shutil.copytree(model, broken)
    (broken / "model.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{}              ")
    ended = serve(broken, environment, tmp_path / "end", "--tensor-parallel-size", "2")
    message = (tmp_path / "end").read_text()
    assert ended.returncode == 1
    assert "root cause" not in message
    assert "SafetensorError" in message
    assert len(message.splitlines()) == 1
