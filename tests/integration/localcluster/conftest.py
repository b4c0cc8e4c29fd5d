"""`localcluster` run as a user runs it, and what is left of a cluster afterwards."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PATIENCE_SECONDS = 240
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def localcluster() -> Run:
    """Run the command; the result has exit code, stdout and stderr."""

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "localcluster", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


@pytest.fixture
def directory(localcluster: Run) -> Iterator[Path]:
    """A cluster's directory; at the test's end the cluster in it is taken down."""
    path = Path(tempfile.mkdtemp(prefix="localcluster-"))
    yield path
    localcluster("down", "--dir", path)
    shutil.rmtree(path)


def processes_of(directory: Path) -> list[str]:
    """The command lines of live processes that mention the directory."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if entry.name.isdigit() and f"{directory}/" in line:
                found.append(line)
        except OSError:
            continue  # it ended meanwhile
    return found


def listening_on(port: int) -> bool:
    """Whether any process listens on this IPv4 TCP port."""
    table = Path("/proc/net/tcp").read_text()
    return re.search(rf":{port:04X} [0-9A-F]+:0000 0A ", table) is not None


def eventually(true: Callable[[], bool], why: str) -> None:
    """Wait for what must become true soon."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not true():
        assert time.monotonic() < deadline, why
        time.sleep(0.05)
