"""The demo, asserted: what its table claims, what it leaves behind, how it fails and how it is interrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.leftovers import processes_of

DEMO_SECONDS = 900


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Path]:
    """A work folder of the demo's own; no process that names it may outlive the test."""
    folder = tmp_path / "work"
    yield folder
    assert processes_of(folder) == []


def start(work: Path, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "demo", "--work", str(work), *arguments],
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@pytest.mark.timeout(DEMO_SECONDS + 60)
def test_the_demo_holds_and_leaves_nothing(work: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    report = tmp_path / "report.json"
    cache = os.environ.get("SHIFT_CACHE", str(Path.home() / ".cache" / "shift-operator"))
    demo = start(work, "--report", str(report), HOME=str(home), SHIFT_CACHE=cache)
    output, _ = demo.communicate(timeout=DEMO_SECONDS)
    print(output)
    assert demo.returncode == 0, output[-6000:]
    outcome = json.loads(report.read_text())
    assert outcome["steps"]["1x2"] > 0
    assert outcome["steps"]["2x1"] > 0
    assert outcome["threshold_after"] != outcome["threshold_before"]
    assert outcome["ranks_confirmed"] == outcome["ranks"] == 2
    assert outcome["generation"] > 1
    assert outcome["equal"] == outcome["compared"] >= 8
    assert outcome["failed_requests"] == 0
    assert outcome["requests"] > 20
    assert processes_of(work) == []
    assert [str(path) for path in home.rglob("*") if path.is_file()] == [], (
        "files outside the cache and the work folder"
    )


@pytest.mark.timeout(DEMO_SECONDS)
def test_a_failing_step_names_its_part_and_shows_its_log(work: Path, tmp_path: Path) -> None:
    assets = tmp_path / "assets"
    assets.mkdir()
    etcd = assets / "etcd"
    etcd.write_text("#!/bin/sh\necho 'panic: no space left in the bolt file' >&2\nexit 3\n")
    etcd.chmod(0o755)
    demo = start(work, KUBEBUILDER_ASSETS=str(assets))
    output, _ = demo.communicate(timeout=DEMO_SECONDS)
    assert demo.returncode == 1, output
    assert "FAILED  local cluster" in output
    assert "etcd" in output
    assert "no space left in the bolt file" in output


@pytest.mark.timeout(DEMO_SECONDS)
def test_ctrl_c_takes_the_cluster_down(work: Path) -> None:
    demo = start(work)
    assert demo.stdout is not None
    seen = []
    for line in demo.stdout:
        seen.append(line)
        if "helm install" in line:
            demo.send_signal(signal.SIGINT)
            break
    rest, _ = demo.communicate(timeout=180)
    assert demo.returncode == 130, "".join(seen) + rest
    assert "the cluster is down" in rest
    assert processes_of(work) == []
