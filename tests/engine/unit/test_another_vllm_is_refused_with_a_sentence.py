"""An image with another vLLM: the engine says so before it asks that vLLM for a name that may not be there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import vllm
from fastapi import FastAPI
from shift_engine.endpoint import ShiftEndpoint
from shift_engine.vllm_version import UnsupportedVllm, check

SAID = (
    "vLLM 0.33.1 is installed, and shift-engine 0.1.0 runs on vLLM's releases 0.32.x alone, since its overlay leans "
    "on vLLM's inside; install vLLM 0.32.x, or the shift-engine that is written for vLLM 0.33.1"
)


@pytest.fixture
def another(tmp_path: Path) -> dict[str, str]:
    """The environment of a process whose vLLM is 0.33.1 and has nothing that anybody could import."""
    package = tmp_path / "vllm"
    package.mkdir()
    (package / "__init__.py").write_text('__version__ = "0.33.1+cu129"\n')
    return os.environ | {"PYTHONPATH": str(tmp_path), "SHIFT_TERMINATION_LOG": str(tmp_path / "end")}


def python(code: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)


def test_the_command_ends_with_the_sentence(another: dict[str, str]) -> None:
    ended = python("from shift_engine import serve; serve.main(['serve', 'model'])", another)
    assert ended.returncode == 1
    assert ended.stderr == f"shift-engine: the engine did not start: UnsupportedVllm: {SAID}\n"
    assert Path(another["SHIFT_TERMINATION_LOG"]).read_text().endswith(f"{SAID}\n")


def test_a_wrong_flag_is_still_told_first(another: dict[str, str]) -> None:
    ended = python("from shift_engine import serve; serve.main(['serve', 'model', '--shift-treshold', '5'])", another)
    assert ended.returncode == 2
    assert "--shift-treshold: no such flag" in ended.stderr


@pytest.mark.parametrize("module", ["worker", "compat.server", "compat.plugins"])
def test_nothing_that_leans_on_vllm_can_be_imported(another: dict[str, str], module: str) -> None:
    """vLLM imports the worker by its name, --worker-cls, in an engine that our command may not have started."""
    ended = python(f"import shift_engine.{module}", another)
    assert ended.returncode == 1
    assert ended.stderr.endswith(f"UnsupportedVllm: {SAID}\n")


def test_a_vllm_of_somebody_else_s_serves_on_without_our_plugins(another: dict[str, str]) -> None:
    """They are installed beside it, and it loads one in every process, the other where VLLM_PLUGINS names it."""
    code = """
from importlib.metadata import entry_points
from types import SimpleNamespace
import asyncio
from fastapi import FastAPI
for entry in entry_points(group="vllm.general_plugins", name="shift_engine"):
    entry.load()()
[entry] = entry_points(group="vllm.endpoint_plugins", name="shift_engine")
plugin, app = entry.load()(), FastAPI()
routes = len(app.routes)
plugin.attach_router(app)
asyncio.run(plugin.init_state(SimpleNamespace(), app.state, None))
assert len(app.routes) == routes and not app.user_middleware and not app.state._state
"""
    ended = python(code, another)
    assert ended.returncode == 0, ended.stderr
    assert f"no GET /shift: {SAID}" in ended.stderr


@pytest.mark.parametrize("version", ["0.32.0", "0.32.7", "0.32.0.post1", "0.32.0+cpu", "0.32.1+cu129"])
def test_each_release_of_its_minor_version_is_taken(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm, "__version__", version)
    check()
    app = FastAPI()
    ShiftEndpoint().attach_router(app)
    assert "/shift" in {getattr(route, "path", None) for route in app.routes}


@pytest.mark.parametrize("version", ["0.31.9", "0.33.0", "0.320.0", "1.32.0", "0.32.0rc1", "0.32.1.dev5+g1234", "dev"])
def test_another_version_is_not(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm, "__version__", version)
    with pytest.raises(UnsupportedVllm, match=rf"^vLLM {version.partition('+')[0]} is installed, .* 0\.32\.x"):
        check()
