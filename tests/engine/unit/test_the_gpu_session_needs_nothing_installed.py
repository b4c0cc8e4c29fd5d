"""`tests/gpu/session.py` runs on a machine that has vLLM and a checkout: the shift engine is not installed there."""

import os
import subprocess
import sys
from pathlib import Path

import torch

SESSION = Path(__file__).parents[2] / "gpu" / "session.py"


def test_an_unknown_case_is_refused_by_a_session_from_a_checkout(tmp_path: Path) -> None:
    # Without `site` the folders of PYTHONPATH have no .pth files, so no editable install is seen.
    packages = Path(torch.__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": str(packages), "SESSION_CASES": "16x1 graphs"}
    command = [sys.executable, "-S", SESSION, tmp_path / "out"]
    session = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert session.returncode == 2, session.stderr
    assert session.stderr.startswith("SESSION_CASES: there is no 16x1 graphs; there are stock TP=8 graphs float32, ")
