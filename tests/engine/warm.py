"""A process that has imported vLLM, and forks for each script that wants it: an import takes half of a small engine's
start, and the tests start some dozens.

As a script it is that process. A line on its standard input asks for a run; it answers with the pid of the fork, which
leads a process group of its own, and at its end with the exit code.
"""

import contextlib
import json
import multiprocessing
import os
import runpy
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

IMPORT_SECONDS = 240  # 6 s of a core, 30 s where no bytecode is kept


class WarmVllm:
    """The process, as the tests have it."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        with log.open("w") as errors:
            self._process = subprocess.Popen(
                [sys.executable, __file__],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                bufsize=1,
            )
        self._log = log

    def run(self, script: Path, arguments: Sequence[str], log: Path, seconds: float) -> int:
        """Run a script to its end in a fork. -> its exit code, negative for a signal. Raises TimeoutError.

        Whatever ends the wait, a test's own timeout too, ends the process group: a rank whose peers are gone spins in
        its collective for ever.
        """
        assert self._process.stdin is not None
        asked = {"script": str(script), "arguments": list(arguments), "log": str(log)}
        self._process.stdin.write(json.dumps(asked) + "\n")
        pid = self._answer(IMPORT_SECONDS)
        code = None
        try:
            code = self._answer(seconds)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
            if code is None:
                self._answer(10)
        return code

    def close(self) -> None:
        """End it."""
        self._process.communicate(timeout=240)

    def _answer(self, seconds: float) -> int:
        answers = self._process.stdout
        assert answers is not None
        if not select.select([answers], [], [], seconds)[0]:
            raise TimeoutError(f"no answer within {seconds} s")
        line = answers.readline()
        assert line, "vLLM could not be imported:\n" + self._log.read_text()[-4000:]
        return int(line)


class Answers:
    """What a script found, by its arguments; it writes JSON to the path that comes after them. Each run is made once,
    one that failed too."""

    def __init__(self, warm: WarmVllm, script: Path, directory: Path, seconds: float) -> None:
        self._warm, self._script, self._directory, self._seconds = warm, script, directory, seconds
        self._found: dict[tuple[str, ...], tuple[dict[str, Any], str] | str] = {}

    def get(self, *arguments: str) -> tuple[dict[str, Any], str]:
        """-> the answer, and the run's log."""
        if arguments not in self._found:
            self._found[arguments] = f"{arguments} did not end in {self._seconds} s"
            answer, log = (self._directory / f"{len(self._found)}.{what}" for what in ("json", "log"))
            self._warm.run(self._script, [*arguments, str(answer)], log, self._seconds)
            text = log.read_text()
            early = f"{arguments} ended early:\n{text[-4000:]}"
            self._found[arguments] = (json.loads(answer.read_text()), text) if answer.exists() else early
        found = self._found[arguments]
        assert not isinstance(found, str), found
        return found


def _fork_ranks() -> None:
    """Here and in the forks vLLM forks its ranks instead of spawning them, so that they import nothing anew, and looks
    at a model's class itself instead of in another process, which is for machines with CUDA."""
    from vllm.model_executor.models import registry
    from vllm.v1.executor import multiproc_executor

    def here(look: Callable[[], Any]) -> Any:
        return look()

    registry._run_in_subprocess = here
    multiproc_executor.get_mp_context = lambda: multiprocessing.get_context("fork")


def _serve() -> None:
    """Answer lines until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # vLLM prints
    import shift_engine.worker  # noqa: F401
    from vllm import LLM  # noqa: F401

    _fork_ranks()
    while line := sys.stdin.readline():
        asked = json.loads(line)
        pid = os.fork()
        if pid == 0:
            answers.close()
            _become(asked)
        print(pid, file=answers)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), file=answers)
    os._exit(0)  # nothing was begun here that would have to end


def _become(asked: dict[str, Any]) -> None:
    """In the fork: the script, as if Python had been started with it."""
    os.setsid()
    with open(asked["log"], "w") as log, open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    sys.argv = [asked["script"], *asked["arguments"]]
    sys.path.insert(0, os.path.dirname(asked["script"]))
    runpy.run_path(asked["script"], run_name="__main__")
    sys.exit(0)


if __name__ == "__main__":
    _serve()
