"""The termination message: one sentence with the true cause, and an exit code that is not 0."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from served import SHIFT_ENGINE, Ended, ended
from warm import WarmVllm

Serve = Callable[..., Ended]


@pytest.fixture
def serve(warm: WarmVllm, environment: dict[str, str], tmp_path: Path) -> Serve:
    """serve(model, *flags) -> how the engine ended."""

    def run(model: Path, *flags: str) -> Ended:
        command = [SHIFT_ENGINE, "serve", model, "--dtype", "float32", "--enforce-eager", "--host", "127.77.0.6"]
        return ended(warm, [*command, *flags], environment, tmp_path)

    return run


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--shift-degree", "2x2", "--tensor-parallel-size", "2"], "2 x tensor 2 is 4, --tensor-parallel-size is 2"),
        (["--tensor-parallel-size", "2", "--worker-cls", "a.B"], "--worker-cls a.B: the shift engine brings its own"),
    ],
)
def test_flags_that_cannot_work_together(serve: Serve, model: Path, flags: list[str], said: str) -> None:
    found = serve(model, *flags)
    assert found.code == 2
    assert said in found.message
    assert said in found.log


def test_a_model_that_is_not_there(serve: Serve, tmp_path: Path) -> None:
    found = serve(tmp_path / "no-model")
    assert found.code == 1
    assert found.message.startswith("the engine did not start: ")
    assert "no-model" in found.message
    assert found.message.strip() in found.log


def test_weights_that_do_not_load_name_the_workers_error(serve: Serve, model: Path, tmp_path: Path) -> None:
    """The cause lies in a worker process; vLLM's API process only learns that the engine core failed."""
    broken = tmp_path / "broken"
    shutil.copytree(model, broken)
    (broken / "model.safetensors").write_bytes(b"these are no weights")
    found = serve(broken)
    assert found.code == 1
    assert "root cause" not in found.message
    assert "SafetensorError" in found.message
    assert len(found.message.splitlines()) == 1
