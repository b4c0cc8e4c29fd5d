"""`tests/gpu/session.py` runs on a machine that has vLLM and a checkout: the shift engine is not installed there."""

import os
import subprocess
import sys
from pathlib import Path

import torch

SESSION = Path(__file__).parents[2] / "gpu" / "session.py"


def session_of_a_checkout(out: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Without `site` the folders of PYTHONPATH have no .pth files, so no editable install is seen."""
    packages = Path(torch.__file__).parents[1]
    command = [sys.executable, "-S", SESSION, out]
    environment = os.environ | {"PYTHONPATH": str(packages)} | environment
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)


def test_an_unknown_case_is_refused_by_a_session_from_a_checkout(tmp_path: Path) -> None:
    session = session_of_a_checkout(tmp_path / "out", SESSION_CASES="16x1 graphs")
    assert session.returncode == 2, session.stderr
    assert session.stderr.startswith("SESSION_CASES: there is no 16x1 graphs; there are 2x1 graphs float32, ")


def test_a_gpu_that_somebody_uses_is_named_before_anything_starts(tmp_path: Path) -> None:
    """Engines that find no memory fail one by one, minutes later."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho '0, 0, 143771'; echo '1, 37075, 143771'\n")
    tool.chmod(0o755)
    session = session_of_a_checkout(tmp_path / "out", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert session.returncode == 2, session.stderr
    assert session.stderr == "GPU 1 has 37,075 of 143,771 MiB in use: end what runs there, nvidia-smi names it\n"
