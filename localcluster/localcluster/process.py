"""A child process that cannot outlive its parent, its output in a log file."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

from localcluster.errors import ComponentDied

PR_SET_PDEATHSIG = 1
LAST_LINES = 20
_libc = ctypes.CDLL(None, use_errno=True)


class Process:
    """Starts, stops and watches one program.

    The kernel kills it when the thread that called `start` ends (PR_SET_PDEATHSIG), so call it from a thread that
    lives as long as the cluster: the main thread.
    """

    def __init__(self, name: str, argv: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> None:
        self.name, self.argv, self.log = name, list(argv), log
        self._environment = environment
        self._child: subprocess.Popen[bytes] | None = None
        self.started_at = 0.0

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def start(self) -> None:
        """Run the program, its output appended to the log. Raises OSError where it cannot be executed."""
        parent = os.getpid()
        self.started_at = time.time()

        def die_with_parent() -> None:
            _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)  # the parent died before the line above

        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,  # Ctrl-C goes to the parent alone, which stops its children in order
                preexec_fn=die_with_parent,
            )

    def check(self) -> None:
        """Raises ComponentDied if it ended on its own."""
        if self._child is not None and (code := self._child.poll()) is not None:
            raise ComponentDied(self.name, code, self.log, last_lines(self.log))

    def terminate(self) -> None:
        """Ask it to end; `stop` waits."""
        if self.running and self._child:
            self._child.terminate()

    def kill(self) -> None:
        """End it as a crash would: SIGKILL, no farewell. `check` then says that it died."""
        if self.running and self._child:
            self._child.kill()
            self._child.wait()

    def stop(self, grace_seconds: float) -> None:
        """TERM, then KILL when the grace is over; returns when the process is gone."""
        if self._child is None:
            return
        self.terminate()
        try:
            self._child.wait(grace_seconds)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._child = None


def last_lines(log: Path, count: int = LAST_LINES) -> str:
    """The end of a log file; "" where there is none."""
    try:
        with log.open(errors="replace") as file:
            return "".join(deque(file, maxlen=count)).rstrip()
    except FileNotFoundError:
        return ""
