"""Running the commands a user would type: localcluster, kubectl, helm. A failure carries the command's last lines."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from demo.narration import Step, StepFailed

TAIL_LINES = 20
# What a command may take to end after SIGTERM before it is killed.
TERMINATION_SECONDS = 10.0


async def run(
    *command: str | Path,
    part: str,
    variables: Mapping[str, str],
    within: float,
    step: Step | None = None,
    cwd: Path | None = None,
    stdin: str | None = None,
) -> str:
    """Run `command`, show its newest line in `step`, return its output (stdout and stderr together).

    Raises StepFailed naming `part` with the last lines when it exits with another code than 0 or takes longer than
    `within` seconds. The command has a session of its own, so that Ctrl-C reaches the demo alone, which then ends it.
    """
    argv = [str(word) for word in command]
    process = await asyncio.create_subprocess_exec(
        *argv,
        env=dict(variables),
        cwd=cwd,
        stdin=asyncio.subprocess.PIPE if stdin is not None else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    lines: list[str] = []
    try:
        async with asyncio.timeout(within):
            if stdin is not None and process.stdin is not None:
                process.stdin.write(stdin.encode())
                process.stdin.close()
            assert process.stdout is not None
            async for raw in process.stdout:
                line = raw.decode(errors="replace").rstrip()
                lines.append(line)
                if step is not None and line:
                    step.now = line
            code = await process.wait()
    except TimeoutError:
        raise StepFailed(part, f"`{_shown(argv)}` took longer than {within:.0f} s", _tail(lines)) from None
    finally:
        await _end(process)
    if code != 0:
        raise StepFailed(part, f"`{_shown(argv)}` ended with exit code {code}", _tail(lines))
    return "\n".join(lines)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TERMINATION_SECONDS):
                await process.wait()
                return


def _shown(argv: Sequence[str]) -> str:
    return " ".join([Path(argv[0]).name, *argv[1:]])


def _tail(lines: Sequence[str]) -> str:
    return "\n".join(lines[-TAIL_LINES:])
