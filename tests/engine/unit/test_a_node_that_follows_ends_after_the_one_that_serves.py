"""A node that runs ranks for another (`--headless`): exit code 1 where its rank dies, and after SIGTERM it stays until
nobody serves on the other node, since that one's requests need the rank."""

import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from served import Process, begin
from warm import WarmVllm, end_group

SCRIPT = Path(__file__).with_name("pretended_rank.py")
SECONDS = 240


@dataclass
class Node:
    """Its process and its rank, and who serves on the other node."""

    process: Process
    rank: psutil.Process
    first: socket.socket
    message: Path


@pytest.fixture
def node(warm: WarmVllm, environment: dict[str, str], tmp_path: Path) -> Iterator[Node]:
    log, message = tmp_path / "log", tmp_path / "termination-log"
    with socket.create_server(("127.0.0.1", 0)) as first:
        first.settimeout(SECONDS)
        flags = ["--nnodes", "2", "--node-rank", "1", "--headless", "--tensor-parallel-size", "2"]
        flags += ["--master-addr", "127.0.0.1", "--port", str(first.getsockname()[1])]
        process = begin(warm, [SCRIPT, "serve", "a-model", *flags], environment, log, message)
        try:
            yield Node(process, psutil.Process(pid_of_rank(process, log)), first, message)
        finally:
            end_group(process)


def pid_of_rank(process: Process, log: Path) -> int:
    """What the script says of it."""
    while process.poll() is None:
        lines = log.read_text().splitlines(keepends=True) if log.exists() else []
        for line in lines:
            if line.startswith("rank ") and line.endswith("\n"):
                return int(line.split()[1])
        time.sleep(0.1)
    raise AssertionError(f"ended early with {process.poll()}:\n{log.read_text()[-4000:]}")


def test_a_rank_that_dies_ends_it_with_code_1_and_its_reason(node: Node) -> None:
    node.rank.kill()
    assert node.process.wait(SECONDS) == 1
    assert "Worker proc rank died unexpectedly" in node.message.read_text()


def test_sigterm_ends_it_with_code_0_once_nobody_serves(node: Node) -> None:
    node.process.send_signal(signal.SIGTERM)
    with node.first.accept()[0]:  # it asks whether anybody serves
        pass
    with node.first.accept()[0]:  # and again, so the first answer did not end it
        assert node.rank.is_running()
    node.first.close()
    assert node.process.wait(SECONDS) == 0
    assert not node.message.exists()
    assert not node.rank.is_running()
