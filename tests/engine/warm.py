"""A process that has imported vLLM, and forks for each script that wants it: the imports of an engine's processes take
most of a small engine's start, and the tests start some dozens.

As a script it is that process. A request names a script, its arguments and its environment; the fork leads a process
group of its own, and becomes what Python would be that had been started with the script.
"""

import atexit
import contextlib
import fcntl
import gc
import hashlib
import importlib
import json
import multiprocessing
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import connection, forkserver, popen_forkserver, resource_tracker, spawn
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil

# By the processes of an engine: API server, scheduler, rank.
IMPORTED = (
    *("shift_engine.compat.server", "shift_engine.compat.follower", "shift_engine.endpoint", "shift_engine.worker"),
    *("vllm.entrypoints.llm", "vllm.v1.engine.async_llm", "vllm.v1.engine.core"),
)
SPIN_SECONDS = 0.0003
IMPORT_SECONDS = 240  # 8 s of a core, 30 s where no bytecode is kept


@dataclass(frozen=True)
class Asked:
    """A run."""

    script: str
    arguments: list[str]
    environment: dict[str, str]
    log: str
    spawns: bool  # its processes are vLLM's spawned ones; else vLLM forks them


class WarmVllm:
    """The process, as the tests have it."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self._environment, self._log = environment, log
        self._codes: dict[int, int] = {}  # of the forks that have ended
        self._pipe, theirs = multiprocessing.Pipe()
        with log.open("w") as out, theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                pass_fds=[theirs.fileno()],
            )

    def start(
        self,
        script: Path,
        arguments: Sequence[str | Path],
        log: Path,
        environment: dict[str, str] | None = None,
        *,
        spawns: bool = True,
    ) -> "Fork":
        """Begin to run a script; its output goes to `log`."""
        asked = Asked(str(script), list(map(str, arguments)), environment or self._environment, str(log), spawns)
        try:
            self._pipe.send(asked.__dict__)
            started = None
            while started is None:
                started = self._hear(IMPORT_SECONDS)
        except (EOFError, ConnectionError):
            raise AssertionError("vLLM could not be imported:\n" + self._log.read_text()[-4000:]) from None
        return Fork(self, started)

    def code(self, pid: int, seconds: float) -> int | None:
        """The exit code of a fork that ends within so many seconds, negative for a signal."""
        deadline = time.monotonic() + seconds
        with contextlib.suppress(TimeoutError):
            while pid not in self._codes:
                self._hear(max(deadline - time.monotonic(), 0))
        return self._codes.get(pid)

    def close(self) -> None:
        """End it, and what still runs."""
        self._pipe.close()
        self._process.wait(240)

    def _hear(self, seconds: float) -> int | None:
        """The pid of a fork that was started; None of one that ended, whose exit code is kept."""
        if not self._pipe.poll(seconds):
            raise TimeoutError(f"no answer within {seconds:.0f} s")
        pid, code = self._pipe.recv()
        if code is None:
            return int(pid)
        self._codes[pid] = code
        return None


@dataclass
class Fork:
    """A run: as much of subprocess.Popen as the tests need."""

    warm: WarmVllm
    pid: int

    def poll(self) -> int | None:
        """The exit code, None while it runs."""
        return self.warm.code(self.pid, 0)

    def wait(self, seconds: float) -> int:
        """Its exit code. Raises TimeoutError."""
        code = self.warm.code(self.pid, seconds)
        if code is None:
            raise TimeoutError(f"process {self.pid} runs after {seconds} s")
        return code

    def send_signal(self, number: int) -> None:
        """To the first process alone, as to a container's."""
        if self.poll() is None:
            os.kill(self.pid, number)


class Answers:
    """What a script found, by its arguments; it writes JSON to the path that comes after them. Each run is made once,
    one that failed too, however many processes run the tests."""

    def __init__(self, warm: WarmVllm, script: Path, directory: Path, seconds: float) -> None:
        self._warm, self._script, self._directory, self._seconds = warm, script, directory, seconds
        directory.mkdir(exist_ok=True)

    def get(self, *arguments: str) -> tuple[dict[str, Any], str]:
        """-> the answer, and the run's log."""
        name = hashlib.sha256("\n".join(arguments).encode()).hexdigest()[:16]
        answer, log = (self._directory / f"{name}.{what}" for what in ("json", "log"))
        with alone(self._directory / f"{name}.lock"):
            if not log.exists():
                self._play([*arguments, str(answer)], log)
        text = log.read_text()
        assert answer.exists(), f"{arguments} has no answer:\n{text[-4000:]}"
        return json.loads(answer.read_text()), text

    def _play(self, arguments: list[str], log: Path) -> None:
        """Whatever ends the wait, a test's own timeout too, ends the process group: a rank whose peers are gone spins
        in its collective for ever."""
        fork = self._warm.start(self._script, arguments, log, spawns=False)
        try:
            fork.wait(self._seconds)
        finally:
            end_group(fork)


@contextlib.contextmanager
def alone(file: Path) -> Iterator[None]:
    """Of all processes that run the tests one at a time is in here."""
    with file.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def end_group(process: "Fork | subprocess.Popen[bytes]") -> None:
    """End a process and all that it has started. What removes the shared memory that they leave is let live:
    multiprocessing's resource tracker, which ends when nobody is left."""
    while members := [each for each in psutil.process_iter(["cmdline"]) if _is_in(each, process.pid)]:
        for each in members:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        process.poll()
        time.sleep(0.05)
    process.wait(10)


def _is_in(process: psutil.Process, group: int) -> bool:
    try:
        alive = os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE
    except (ProcessLookupError, psutil.NoSuchProcess):
        return False
    return alive and not any("resource_tracker" in word for word in process.info["cmdline"] or ())


def _serve(tests: Connection) -> None:
    """Answer requests until the tests hang up."""
    _import()
    running: dict[int, int] = {}  # pids, by a descriptor that is readable when the process has ended
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            for ready in connection.wait([tests, *running]):
                if ready is not tests:
                    pid = running.pop(ready)
                    os.close(ready)
                    tests.send((pid, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])))
                    continue
                asked = Asked(**tests.recv())
                pid = os.fork()
                if pid == 0:
                    tests.close()
                    for descriptor in running:
                        os.close(descriptor)
                    _become(asked)
                running[os.pidfd_open(pid)] = pid
                tests.send((pid, None))
    for pid in running.values():
        os.killpg(pid, signal.SIGKILL)
    os._exit(0)


def _import() -> None:
    """All that the processes of an engine import, so that no fork has to."""
    import setproctitle
    from vllm.distributed.device_communicators import shm_broadcast

    for module in IMPORTED:
        importlib.import_module(module)

    look_at_models_here()
    _replace_triton_kernels()
    # For a second after each message its readers spin. With more of them than cores that is the time of the others.
    shm_broadcast.sched_yield = lambda: time.sleep(SPIN_SECONDS)
    gc.collect()
    gc.freeze()  # else each collection in a fork looks at all that was imported, and so copies it
    gc.unfreeze = lambda: None  # vLLM does as an engine ends, and collects once more
    setproctitle.getproctitle()  # it finds its place by the environment, which must still be where it was at the start


def look_at_models_here() -> None:
    """vLLM looks at a model's class in another process, which imports all anew. That is for machines with CUDA."""
    from vllm.model_executor.models import registry

    def here(look: Callable[[], Any]) -> Any:
        return look()

    registry._run_in_subprocess = here


def _replace_triton_kernels() -> None:
    """vLLM on CPU has each rank look for them in all that was imported, half a second of a core."""
    from vllm.platforms import current_platform

    current_platform.register_triton_kernel_overrides()
    type(current_platform).register_triton_kernel_overrides = staticmethod(lambda: None)


def _become(asked: Asked) -> None:
    """In the fork: the script, as if Python had been started with it."""
    os.setsid()
    with open(asked.log, "w") as log, open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    _take_environment(asked.environment)
    sys.argv = [asked.script, *asked.arguments]
    sys.path[:0] = [os.path.dirname(asked.script), *filter(None, os.environ.get("PYTHONPATH", "").split(":"))]
    if asked.spawns:
        _spawn_from_a_seed()
    else:
        _fork_ranks()
    try:
        runpy.run_path(asked.script, run_name="__main__")
        code: Any = 0
    except SystemExit as leaving:
        code = leaving.code or 0
    except BaseException:
        traceback.print_exc()
        code = 1
    _leave(code if isinstance(code, int) else 1)


def _leave(code: int) -> None:
    """Exit, but without Python taking down all that was imported, 3 s of a core."""
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _take_environment(environment: dict[str, str]) -> None:
    """Make it this process's, and tell the modules that read it when they were imported."""
    import prometheus_client.values
    import torch

    os.environ.clear()
    os.environ.update(environment)
    prometheus_client.values.ValueClass = prometheus_client.values.get_value_class()
    if environment.get("TORCH_COMPILE_DISABLE") == "1":
        torch.compiler.set_stance("force_eager")


def _fork_ranks() -> None:
    """From now on vLLM forks its ranks as the script has them by then."""
    from vllm.v1.executor import multiproc_executor

    multiproc_executor.get_mp_context = lambda: multiprocessing.get_context("fork")


def _spawn_from_a_seed() -> None:
    """From now on a process that is spawned, here or in one that was, is forked from a seed: a process that has
    imported vLLM and has begun nothing, no thread, no event loop, no socket. It gets what a spawned process gets,
    pickled and by descriptors, and the environment of the one that wants it. This is multiprocessing's fork server,
    but forked itself, where multiprocessing would start it anew."""
    prepare, preparation = spawn.prepare, spawn.get_preparation_data

    def prepare_with_environment(data: dict[str, Any]) -> None:
        _take_environment(data.pop("environment"))
        prepare(data)

    spawn.prepare = prepare_with_environment
    spawn.get_preparation_data = lambda name: preparation(name) | {"environment": dict(os.environ)}
    multiprocessing.context.SpawnProcess._Popen = staticmethod(popen_forkserver.Popen)
    server = forkserver._forkserver
    server.ensure_running = resource_tracker.ensure_running
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(connection.arbitrary_address("AF_UNIX"))
        listener.listen()
        ended, alive = os.pipe()  # the seed ends when all who hold `alive` have
        if os.fork() == 0:
            os.close(alive)
            try:
                forkserver.main(listener.detach(), ended, [])
            finally:
                os._exit(0)
        os.close(ended)
        server._forkserver_address, server._forkserver_alive_fd = listener.getsockname(), alive


if __name__ == "__main__":
    _serve(Connection(int(sys.argv[1])))
