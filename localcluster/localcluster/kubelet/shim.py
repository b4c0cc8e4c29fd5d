"""The process between the kubelet and one container: starts it, writes its log, reports its end, leaves nothing behind.

Standard library only and run as a file (`python -I -S shim.py FD`), so that it starts in some 20 ms. FD is one end of a
socket pair. The kubelet first sends a line of JSON, the order:

    {"argv": [...], "env": {...}, "cwd": DIR, "tmp": DIR, "log": FILE or null, "logBytes": N}

then lines `TERM` (signal the container's first process, as a runtime does) or `KILL` (end every process). The shim
answers in lines of JSON: `{"pid": N}` once the program runs or `{"error": TEXT}` if it cannot, and at the end
`{"exit": CODE, "signal": N or null}`. Without a log the container has the shim's own stdin, stdout and stderr (exec).

Nothing outlives it: the shim is the subreaper of all its descendants, so a daemon that forks away is still found below
it. When the first process ends, the rest is killed, as in a PID namespace. When the kubelet dies, even by SIGKILL, the
socket closes and the kernel sends SIGHUP (PR_SET_PDEATHSIG): both mean `KILL`.

The shim's working directory is the container's temporary one, which the container gets as TMPDIR=/proc/<shim>/cwd: a
Unix socket's path may have 107 bytes, and a pod's directory with its uid leaves none for the name.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import socket
import sys
import time

TYPE_CHECKING = False  # type checkers take it for True; importing typing would add a third to the start
if TYPE_CHECKING:
    from typing import Any

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
PARTIAL_BYTES = 16384
"""A longer line is written in pieces tagged P, as container runtimes do."""

libc = ctypes.CDLL(None, use_errno=True)


class Log:
    """One container attempt's log in the runtime's format: `<RFC 3339, nanoseconds> stdout|stderr F|P <line>`."""

    def __init__(self, path: str, limit_bytes: int) -> None:
        self.path, self.limit_bytes = path, limit_bytes
        self.file = open(path, "ab")  # noqa: SIM115 - open for the shim's life
        self.rest = {"stdout": b"", "stderr": b""}

    def feed(self, stream: str, chunk: bytes) -> None:
        """Write the complete lines of what arrived, keep the unfinished one; an empty chunk (end of file) ends it."""
        *lines, rest = (self.rest[stream] + chunk).split(b"\n")
        if rest and not chunk:
            lines, rest = [rest], b""
        entries: list[tuple[bytes, bytes]] = []
        for line in lines:
            while len(line) > PARTIAL_BYTES:
                entries.append((b"P", line[:PARTIAL_BYTES]))
                line = line[PARTIAL_BYTES:]
            entries.append((b"F", line))
        while len(rest) > PARTIAL_BYTES:
            entries.append((b"P", rest[:PARTIAL_BYTES]))
            rest = rest[PARTIAL_BYTES:]
        self.rest[stream] = rest
        if not entries:
            return
        now = time.time_ns()
        head = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 10**9)) + f".{now % 10**9:09d}Z {stream} "
        self.file.write(b"".join(head.encode() + tag + b" " + line + b"\n" for tag, line in entries))
        self.file.flush()
        if self.file.tell() > self.limit_bytes:
            self.file.close()
            os.replace(self.path, self.path + ".1")
            self.file = open(self.path, "ab")  # noqa: SIM115


def descendants() -> list[int]:
    """The pids below this process, from /proc's parent links."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            continue  # it ended meanwhile
        if fields[0] != b"Z":
            children.setdefault(int(fields[1]), []).append(int(entry))
    found, look = [], [os.getpid()]
    while look:
        below = children.get(look.pop(), [])
        found += below
        look += below
    return found


def shared_memory(pid: int) -> set[str]:
    """The files in /dev/shm that a process has mapped."""
    try:
        with open(f"/proc/{pid}/maps") as maps:
            paths = {line.rstrip("\n").partition("/dev/shm/")[2] for line in maps if "/dev/shm/" in line}
    except OSError:
        return set()  # it ended meanwhile
    return {f"/dev/shm/{path}" for path in paths if not path.endswith("(deleted)")}


def kill_descendants(shared: set[str]) -> None:
    """SIGKILL all of them; what they shared is added to `shared`, since nobody is left to remove it."""
    for pid in descendants():
        shared |= shared_memory(pid)
        try:  # noqa: SIM105 - importing contextlib would double the start time
            os.kill(pid, signal.SIGKILL)
        except OSError:
            pass  # it ended meanwhile


def become_container(order: dict[str, Any], out: int, err: int, parent: int) -> None:
    """In the forked child: own session, default signals, dies with the shim, then the program."""
    os.setsid()
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(137)  # the shim died before the line above
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    if order["log"]:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(err, 2)
    os.chdir(order["cwd"])
    os.execvpe(order["argv"][0], order["argv"], order["env"])


def start(order: dict[str, Any], out: int, err: int) -> tuple[int, str]:
    """Fork and exec; (pid, "") once the program runs, (pid, why) if it could not be executed."""
    shim = os.getpid()
    read_end, write_end = os.pipe()  # closes on exec: end of file means that the program runs
    pid = os.fork()
    if pid == 0:
        try:
            become_container(order, out, err, shim)
        except BaseException as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else repr(error)
            os.write(write_end, f'exec "{order["argv"][0]}": {why}'.encode())
        finally:
            os._exit(128)
    os.close(write_end)
    report = os.read(read_end, 4096)
    os.close(read_end)
    return pid, report.decode()


def main() -> None:
    channel = socket.socket(fileno=int(sys.argv[1]))
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGHUP)
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)

    received = b""
    while b"\n" not in received:
        chunk = channel.recv(65536)
        if not chunk:
            return
        received += chunk
    line, _, received = received.partition(b"\n")
    order = json.loads(line)
    os.chdir(order["tmp"])
    order["env"].setdefault("TMPDIR", f"/proc/{os.getpid()}/cwd")

    log = Log(order["log"], order["logBytes"]) if order["log"] else None
    pipes: dict[int, str] = {}
    out, err = 1, 2
    if log:
        (out_read, out), (err_read, err) = os.pipe(), os.pipe()
        pipes = {out_read: "stdout", err_read: "stderr"}
    first, why = start(order, out, err)
    if log:
        os.close(out)
        os.close(err)
    channel.sendall(json.dumps({"error": why} if why else {"pid": first}).encode() + b"\n")

    poll = select.poll()
    for fd in (channel.fileno(), wake_read, *pipes):
        poll.register(fd, select.POLLIN)
    status: int | None = None
    killing = False
    shared: set[str] = set()
    while status is None or pipes:
        # While killing, look again soon: a process may have forked between the look at /proc and the signal.
        for fd, _ in poll.poll(20 if killing else None):
            if fd in pipes and log:
                chunk = os.read(fd, 65536)
                log.feed(pipes[fd], chunk)
                if not chunk:
                    poll.unregister(fd)
                    os.close(fd)
                    del pipes[fd]
            elif fd == channel.fileno():
                chunk = channel.recv(4096)
                received += chunk
                *orders, received = received.split(b"\n")
                killing = killing or not chunk or b"KILL" in orders
                if not chunk:
                    poll.unregister(fd)
                if b"TERM" in orders and status is None:
                    os.kill(first, signal.SIGTERM)
            elif fd == wake_read:
                killing = killing or signal.SIGHUP in os.read(wake_read, 4096)
        while True:  # reap the container and whatever it left to us
            try:
                pid, ended = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            if pid == first:
                status, killing = ended, True
        if killing:
            kill_descendants(shared)
    while True:  # whatever held no pipe
        kill_descendants(shared)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            break

    for path in shared:  # a container's /dev/shm goes with it
        try:  # noqa: SIM105
            os.unlink(path)
        except OSError:
            pass  # it was removed in time

    by_signal = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
    code = 128 + by_signal if by_signal else os.WEXITSTATUS(status)
    try:  # noqa: SIM105
        channel.sendall(json.dumps({"exit": code, "signal": by_signal}).encode() + b"\n")
    except OSError:
        pass  # the kubelet is gone


if __name__ == "__main__":
    main()
