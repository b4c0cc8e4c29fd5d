"""A node that runs ranks for another (`--headless`): exit code 1 where its rank dies, and after SIGTERM it stays until
nobody serves on the other node, since that one's requests need the rank."""

import os
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from warm import WarmVllm

SCRIPT = Path(__file__).with_name("pretended_rank.py")
SECONDS = 240


@dataclass
class Node:
    """Its process and its rank, who serves on the other node, and the exit code."""

    pid: int
    rank: psutil.Process
    first: socket.socket
    message: Path
    code: Future[int]


@pytest.fixture
def node(warm: WarmVllm, tmp_path: Path) -> Iterator[Node]:
    log, message = tmp_path / "log", tmp_path / "termination-log"
    with socket.create_server(("127.0.0.1", 0)) as first, ThreadPoolExecutor(1) as pool:
        first.settimeout(SECONDS)
        flags = ["--nnodes", "2", "--node-rank", "1", "--headless", "--tensor-parallel-size", "2"]
        flags += ["--master-addr", "127.0.0.1", "--port", str(first.getsockname()[1])]
        code = pool.submit(warm.run, SCRIPT, [str(message), "serve", "a-model", *flags], log, SECONDS)
        pid, rank = pids(log, code)
        yield Node(pid, psutil.Process(rank), first, message, code)


def pids(log: Path, code: "Future[int]") -> list[int]:
    """What the script says of itself and of its rank."""
    while not code.done():
        lines = log.read_text().splitlines(keepends=True) if log.exists() else []
        for line in lines:
            if line.startswith("pids ") and line.endswith("\n"):
                return [int(word) for word in line.split()[1:]]
        time.sleep(0.1)
    raise AssertionError(f"ended early with {code.result()}:\n{log.read_text()[-4000:]}")


def test_a_rank_that_dies_ends_it_with_code_1_and_its_reason(node: Node) -> None:
    node.rank.kill()
    assert node.code.result() == 1
    assert "Worker proc rank died unexpectedly" in node.message.read_text()


def test_sigterm_ends_it_with_code_0_once_nobody_serves(node: Node) -> None:
    os.kill(node.pid, signal.SIGTERM)
    with node.first.accept()[0]:  # it asks whether anybody serves
        pass
    with node.first.accept()[0]:  # and again, so the first answer did not end it
        assert node.rank.is_running()
    node.first.close()
    assert node.code.result() == 0
    assert not node.message.exists()
    assert not node.rank.is_running()
