"""A component's process: ends when asked, says how it died, and never outlives the process that started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from localcluster.errors import ComponentDied
from localcluster.process import Process, last_lines

PATIENCE_SECONDS = 120


def test_a_component_that_ends_by_itself_is_named_with_its_code_and_last_lines(tmp_path: Path) -> None:
    process = Process("etcd", ["/bin/sh", "-c", "seq 1 30; exit 7"], tmp_path / "etcd.log")
    process.start()
    _wait_until_ended(process)
    with pytest.raises(ComponentDied) as died:
        process.check()
    assert died.value.exit_code == 7
    assert "etcd ended with exit code 7" in str(died.value)
    assert str(died.value).splitlines()[1:] == [str(number) for number in range(11, 31)]


def test_a_killed_component_is_said_to_be_killed(tmp_path: Path) -> None:
    process = Process("etcd", ["/bin/sleep", "60"], tmp_path / "etcd.log")
    process.start()
    process.check()
    process.kill()
    with pytest.raises(ComponentDied, match="was killed by signal 9"):
        process.check()


def test_a_component_deaf_to_sigterm_is_killed_after_its_grace(tmp_path: Path) -> None:
    process = Process(
        "deaf", ["/bin/sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 0.1; done"], tmp_path / "log"
    )
    process.start()
    pid = process.pid
    while "deaf" not in last_lines(tmp_path / "log"):
        time.sleep(0.02)
    process.stop(0.2)
    assert pid is not None
    assert not _alive(pid)


def test_stopping_what_never_ran_does_nothing(tmp_path: Path) -> None:
    Process("etcd", ["/bin/true"], tmp_path / "log").stop(1)


def test_sigkill_of_the_parent_ends_the_child(tmp_path: Path) -> None:
    program = (
        "import pathlib, sys\n"
        "from localcluster.process import Process\n"
        "child = Process('child', ['/bin/sleep', '600'], pathlib.Path(sys.argv[1]))\n"
        "child.start()\n"
        "print(child.pid, flush=True)\n"
        "input()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "log")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as parent:  # fmt: skip
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert _alive(child)
        os.kill(parent.pid, signal.SIGKILL)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while _alive(child):
        assert time.monotonic() < deadline, f"process {child} outlived its parent"
        time.sleep(0.02)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _wait_until_ended(process: Process) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while process.running:
        assert time.monotonic() < deadline
        time.sleep(0.02)
