"""A container's process as the kubelet holds it: through its shim and the socket between them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

SHIM = str(Path(__file__).with_name("shim.py"))
LOG_BYTES = 10 * 2**20
EXEC_OUTPUT_BYTES = 10 * 1024


class StartError(Exception):
    """The program cannot be executed: not found, not executable, no such working directory."""


@dataclass(frozen=True)
class Order:
    """What to run. Without a log the output goes to whoever started the shim."""

    argv: list[str]
    env: Mapping[str, str]
    cwd: Path
    tmp: Path
    log: Path | None

    def beside(self, argv: list[str]) -> Order:
        """Another command in the same surroundings, its output not logged."""
        return replace(self, argv=argv, log=None)

    def line(self) -> bytes:
        order = {
            "argv": self.argv,
            "env": dict(self.env),
            "cwd": str(self.cwd),
            "tmp": str(self.tmp),
            "log": str(self.log) if self.log else None,
            "logBytes": LOG_BYTES,
        }
        return json.dumps(order).encode() + b"\n"


@dataclass(frozen=True)
class Exit:
    """How it ended; a signal n gives the code 128 + n."""

    code: int
    signal: int | None = None


KILLED = Exit(128 + signal.SIGKILL, signal.SIGKILL)


class Process:
    """`ended` resolves when the container's first process and all its descendants are gone."""

    def __init__(self, pid: int, shim_pid: int, channel: socket.socket) -> None:
        self.pid, self.shim_pid = pid, shim_pid
        self._channel = channel
        self.ended: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self.follower: asyncio.Task[None] | None = None

    def terminate(self) -> None:
        """SIGTERM to the container's first process."""
        self._send(b"TERM\n")

    def kill(self) -> None:
        """SIGKILL to every process of the container."""
        self._send(b"KILL\n")

    def _send(self, line: bytes) -> None:
        """Past the stream's writer: one that fails, since the shim has ended, drops what was not read of it yet."""
        if not self.ended.done():
            with contextlib.suppress(OSError):
                self._channel.send(line)


async def start(order: Order) -> Process:
    """Run a container. Returns once its program is executed; raises StartError."""
    process, _ = await _launch(order)
    return process


async def execute(order: Order, limit: float | None) -> tuple[int, str]:
    """Run a command to its end: (exit code, output). `limit` in seconds: TimeoutError then. Raises StartError."""
    process, shim = await _launch(order, stdout=PIPE, stderr=STDOUT)
    assert shim.stdout is not None
    try:
        async with asyncio.timeout(limit):
            output = await shim.stdout.read(EXEC_OUTPUT_BYTES)
            while await shim.stdout.read(65536):
                pass
            exit_ = await process.ended
    finally:
        process.kill()
        await asyncio.shield(process.ended)
    return exit_.code, output.decode(errors="replace")


async def converse(order: Order) -> tuple[Process, asyncio.subprocess.Process]:
    """Run a command whose stdin, stdout and stderr are the second value's streams. Raises StartError."""
    return await _launch(order, stdin=PIPE, stdout=PIPE, stderr=PIPE)


async def _launch(
    order: Order, *, stdin: int = DEVNULL, stdout: int = DEVNULL, stderr: int | None = None
) -> tuple[Process, asyncio.subprocess.Process]:
    ours, theirs = socket.socketpair()
    with theirs:
        shim = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-S", SHIM, str(theirs.fileno()),
            pass_fds=[theirs.fileno()],
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
            env={},
        )  # fmt: skip
    reader, writer = await asyncio.open_connection(sock=ours)
    writer.write(order.line())
    answer = json.loads(await _line(reader) or b'{"error": "its shim died at the start"}')
    process = Process(answer.get("pid", 0), shim.pid, ours)
    process.follower = asyncio.create_task(_follow(process, shim, reader, writer))
    if "error" in answer:
        await process.ended
        raise StartError(answer["error"])
    return process, shim


async def _follow(
    process: Process, shim: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Wait for the shim's last word. A shim that was killed says none: its container counts as killed."""
    line = await _line(reader)
    answer = json.loads(line) if line else None
    await shim.wait()
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    process.ended.set_result(Exit(answer["exit"], answer["signal"]) if answer else KILLED)


async def _line(reader: asyncio.StreamReader) -> bytes:
    """The shim's next line, empty if it ended before. One that ends with an order unread resets the connection."""
    try:
        line = await reader.readline()
    except OSError:
        return b""
    return line if line.endswith(b"\n") else b""


def kill_below(directory: Path) -> int:
    """SIGKILL every process whose HOME lies below `directory`, what an earlier kubelet may have left; how many."""
    mark = f"HOME={directory}/".encode()
    killed = 0
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            environment = Path("/proc", entry, "environ").read_bytes()
            if any(variable.startswith(mark) for variable in environment.split(b"\0")):
                os.kill(int(entry), signal.SIGKILL)
                killed += 1
        except OSError:
            continue  # it ended meanwhile, or is another user's
    return killed
