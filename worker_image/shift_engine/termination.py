"""Why the engine did not start, or died, in a sentence: to stderr and to the container's termination message.

vLLM's processes log the true cause where it happens and pass on "See root cause above". So every process of the engine
notes the exceptions that vLLM logs, in one file in the order of their time, and the first one names the cause.
"""

import json
import logging
import os
import sys
import tempfile
from pathlib import Path

NOTES = "SHIFT_ENGINE_NOTES"  # environment: the file that all processes of one engine append to
MESSAGE = "SHIFT_TERMINATION_LOG"  # environment: the container's terminationMessagePath
LONGEST = 600  # characters; Kubernetes keeps 4096 bytes
MOST_NOTES = 20
# They only say that another process has the cause.
SECOND_HAND = (
    "see root cause above",
    "see stack trace for root cause",
    "cancelled",
    "broken pipe",
    "connection closed",
)


class NoteTaker(logging.Handler):
    """Appends each exception that vLLM logs as an error to the notes."""

    def __init__(self, path: Path) -> None:
        super().__init__(level=logging.ERROR)
        self._path = path
        self._taken = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Never raises: it runs while something else fails."""
        if not record.exc_info or record.exc_info[1] is None or self._taken >= MOST_NOTES:
            return
        self._taken += 1
        try:
            note(self._path, record.exc_info[1])
        except OSError:
            self.handleError(record)


def begin_notes() -> Path:
    """In the first process: make the file, and take notes here too."""
    descriptor, name = tempfile.mkstemp(prefix="shift-engine-", suffix=".notes")
    os.close(descriptor)
    os.environ[NOTES] = name
    take_notes()
    return Path(name)


def take_notes() -> None:
    """vLLM's general plugin `shift_engine`: runs in the engine core and in every worker before they load anything."""
    path = os.environ.get(NOTES)
    logger = logging.getLogger("vllm")
    if path and not any(isinstance(handler, NoteTaker) for handler in logger.handlers):
        logger.addHandler(NoteTaker(Path(path)))


def note(path: Path, error: BaseException) -> None:
    """Append one exception. A line of less than a page, written at once, is not torn between processes."""
    line = json.dumps(sentence(error)) + "\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


def cause(path: Path) -> str | None:
    """The first note that is not second hand."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    first_hand = [line for line in lines if not any(mark in line.lower() for mark in SECOND_HAND)]
    return next(iter(first_hand or lines), None)


def sentence(error: BaseException) -> str:
    """An exception as a sentence: its type and what it says, on one line."""
    said = " ".join(str(error).replace("Value error, ", "").split())
    said = said.partition(" [type=")[0]  # pydantic appends the input it got and a link
    text = f"{type(error).__name__}: {said}" if said else type(error).__name__
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def leave_message(text: str) -> None:
    """To stderr, and to the termination message where the container has one."""
    print(f"shift-engine: {text}", file=sys.stderr, flush=True)
    if path := os.environ.get(MESSAGE):
        try:
            Path(path).write_text(text + "\n")
        except OSError as error:
            print(f"shift-engine: {MESSAGE}={path}: {error.strerror}", file=sys.stderr, flush=True)
