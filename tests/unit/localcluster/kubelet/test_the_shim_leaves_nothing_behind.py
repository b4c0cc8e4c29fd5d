"""Real processes under the shim: output, exit codes, signals, daemons, and the kubelet's sudden death."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from localcluster.kubelet import process
from localcluster.kubelet.process import Exit, Order, StartError

ENV = {"PATH": "/usr/bin:/bin", "A": "b"}
# Leaves its session and its parent, as daemons do, and says where it is.
DAEMON = "import os,sys,time\nif os.fork() == 0:\n os.setsid()\n print(os.getpid(), flush=True)\n time.sleep(600)\n"


def order(tmp_path: Path, *argv: str) -> Order:
    return Order(list(argv), ENV, tmp_path, tmp_path, tmp_path / "0.log")


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] != b"Z"
    except OSError:
        return False


def stand_still_while_alive(pid: int) -> None:
    """With the event loop."""
    while is_alive(pid):
        time.sleep(0.01)


async def eventually(holds: Callable[[], bool]) -> None:
    for _ in range(500):
        if holds():
            return
        await asyncio.sleep(0.02)
    raise TimeoutError


async def until(path: Path, text: bytes) -> None:
    await eventually(lambda: path.exists() and text in path.read_bytes())


async def test_output_and_exit_code(tmp_path: Path) -> None:
    running = await process.start(order(tmp_path, "sh", "-c", "echo out; echo err >&2; printf tail; exit 3"))
    assert await running.ended == Exit(3)
    lines = [line.split(b" ", 1)[1] for line in (tmp_path / "0.log").read_bytes().splitlines()]
    assert sorted(lines) == [b"stderr F err", b"stdout F out", b"stdout F tail"]


async def test_the_environment_is_the_order_s_alone(tmp_path: Path) -> None:
    running = await process.start(order(tmp_path, "env"))
    await running.ended
    seen = {line.split(b" ", 3)[3].split(b"=")[0] for line in (tmp_path / "0.log").read_bytes().splitlines()}
    assert seen == {b"PATH", b"A", b"TMPDIR"}


async def test_the_temporary_directory_is_the_pod_s_and_takes_unix_sockets(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100)  # with the name below far more than the 107 bytes that a socket's path may have
    deep.mkdir()
    program = "import os, socket; socket.socket(socket.AF_UNIX).bind(os.environ['TMPDIR'] + '/' + 'n' * 36)"
    running = await process.start(order(deep, sys.executable, "-c", program))
    assert await running.ended == Exit(0)
    assert (deep / ("n" * 36)).is_socket()


async def test_a_program_that_is_not_there_is_a_start_error(tmp_path: Path) -> None:
    with pytest.raises(StartError, match='exec "nonesuch": No such file or directory'):
        await process.start(order(tmp_path, "nonesuch"))


async def test_term_is_the_program_s_to_handle_and_kill_is_not(tmp_path: Path) -> None:
    running = await process.start(
        order(tmp_path, "sh", "-c", "trap 'echo no' TERM; echo up; while :; do sleep 0.05; done")
    )
    await until(tmp_path / "0.log", b"up")
    running.terminate()
    await until(tmp_path / "0.log", b"no")
    running.kill()
    assert await running.ended == Exit(137, signal.SIGKILL)


async def test_term_ends_a_program_that_does_not_care(tmp_path: Path) -> None:
    running = await process.start(order(tmp_path, "sleep", "600"))
    running.terminate()
    assert await running.ended == Exit(143, signal.SIGTERM)


async def test_a_daemon_ends_with_its_container(tmp_path: Path) -> None:
    running = await process.start(order(tmp_path, sys.executable, "-c", DAEMON + "time.sleep(0.5)"))
    assert await running.ended == Exit(0)
    daemon = int((tmp_path / "0.log").read_bytes().split()[-1])
    assert not is_alive(daemon)


async def test_a_command_beside_it_gives_code_and_output_and_ends_in_time(tmp_path: Path) -> None:
    assert await process.execute(order(tmp_path).beside(["sh", "-c", "echo hi; exit 4"]), 5) == (4, "hi\n")
    with pytest.raises(TimeoutError):
        await process.execute(order(tmp_path).beside(["sleep", "600"]), 0.3)


KUBELET = """
import asyncio, sys
from pathlib import Path
from localcluster.kubelet import process
async def main():
    tmp = Path(sys.argv[1])
    order = process.Order([sys.executable, "-c", sys.argv[2]], {"PATH": "/usr/bin:/bin"}, tmp, tmp, tmp / "0.log")
    await process.start(order)
    await asyncio.sleep(600)
asyncio.run(main())
"""


async def test_nothing_outlives_a_kubelet_that_is_killed(tmp_path: Path) -> None:
    daemon_and_main = DAEMON + "else:\n print(os.getppid(), flush=True)\n time.sleep(600)\n"
    kubelet = await asyncio.create_subprocess_exec(sys.executable, "-c", KUBELET, str(tmp_path), daemon_and_main)
    log = tmp_path / "0.log"
    await eventually(lambda: log.exists() and log.read_bytes().count(b"\n") == 2)
    pids = [int(line.split()[-1]) for line in log.read_bytes().splitlines()]
    assert all(is_alive(pid) for pid in pids)
    os.kill(kubelet.pid, signal.SIGKILL)
    await kubelet.wait()
    await eventually(lambda: not any(is_alive(pid) for pid in pids))


async def test_shared_memory_goes_with_the_container(tmp_path: Path) -> None:
    program = "import time; from multiprocessing.shared_memory import SharedMemory as S\n"
    program += "s = S(create=True, size=4096); print(s.name, flush=True); time.sleep(600)"
    running = await process.start(order(tmp_path, sys.executable, "-c", program))
    log = tmp_path / "0.log"
    await until(log, b"psm")
    segment = Path("/dev/shm") / log.read_text().split()[-1]
    assert segment.exists()
    running.kill()
    await running.ended
    assert not segment.exists()


async def test_a_shim_that_is_killed_counts_as_a_killed_container(tmp_path: Path) -> None:
    running = await process.start(order(tmp_path, "sleep", "600"))
    os.kill(running.shim_pid, signal.SIGKILL)
    assert await running.ended == process.KILLED


async def test_a_shim_that_is_killed_with_an_order_unread_counts_as_a_killed_container(tmp_path: Path) -> None:
    running = await process.start(order(tmp_path, "sleep", "600"))
    os.kill(running.shim_pid, signal.SIGSTOP)
    running.terminate()
    os.kill(running.shim_pid, signal.SIGKILL)
    async with asyncio.timeout(60):
        assert await running.ended == Exit(137, signal.SIGKILL)


async def test_an_end_that_the_kubelet_has_not_read_yet_is_not_lost_by_what_it_still_sends(tmp_path: Path) -> None:
    running = await process.start(
        order(tmp_path, "sh", "-c", f"until [ -e {tmp_path}/go ]; do sleep 0.01; done; exit 3")
    )
    (tmp_path / "go").touch()
    stand_still_while_alive(running.shim_pid)  # so the end stays unread
    running.terminate()
    running.kill()
    async with asyncio.timeout(60):
        assert await running.ended == Exit(3)


async def test_a_large_log_is_rotated_and_long_lines_come_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "LOG_BYTES", 30_000)
    running = await process.start(order(tmp_path, sys.executable, "-c", "print('x' * 40000); print('end')"))
    await running.ended
    assert (tmp_path / "0.log.1").exists()
    log = (tmp_path / "0.log.1").read_bytes() + (tmp_path / "0.log").read_bytes()
    assert log.count(b" P ") == 2
    assert log.endswith(b"stdout F end\n")
