"""Why the engine did not start, or died, in a sentence: to stderr and to the container's termination message.

vLLM's processes log the true cause where it happens and pass on "See root cause above". So every process of the engine
notes the exceptions that vLLM logs, in one file in the order of their time, and the first one names the cause.
"""

import json
import logging
import os
import sys
import tempfile
import time
from pathlib import Path

NOTES = "SHIFT_ENGINE_NOTES"  # environment: the file that all processes of one engine append to
MESSAGE = "SHIFT_TERMINATION_LOG"  # environment: the container's terminationMessagePath
LONGEST = 600  # characters; Kubernetes keeps 4096 bytes
LONGEST_NOTES = 64 * 1024  # bytes
LAST_WORDS_SECONDS = 30.0  # an engine that died said why in its last so many seconds
# They only say that another process has the cause.
SECOND_HAND = (
    "see root cause above",
    "see stack trace for root cause",
    "cancelled",
    "broken pipe",
    "connection closed",
)

_deaths: list[str] = []


class NoteTaker(logging.Handler):
    """Appends to the notes what vLLM logs as an error with its exception, and that a worker process died."""

    def __init__(self, path: Path) -> None:
        super().__init__(level=logging.ERROR)
        self._path = path

    def emit(self, record: logging.LogRecord) -> None:
        """Never raises: it runs while something else fails."""
        try:
            if record.exc_info and record.exc_info[1] is not None:
                note(self._path, sentence(record.exc_info[1]))
            elif "died unexpectedly" in record.getMessage():
                note(self._path, record.getMessage())
        except Exception:
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


def note(path: Path, text: str) -> None:
    """Append a line. It has less than a page and is written at once, so processes do not tear each other's lines. A
    server that logs errors for months begins anew when the notes grow long."""
    if path.stat().st_size > LONGEST_NOTES:
        os.truncate(path, 0)
    line = json.dumps({"at": time.time(), "said": text}) + "\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


def cause(path: Path, within_seconds: float = float("inf")) -> str | None:
    """The first note of the last so many seconds that is not second hand."""
    notes = [json.loads(line) for line in path.read_text().splitlines()]
    recent = [str(each["said"]) for each in notes if time.time() - each["at"] <= within_seconds]
    first_hand = [said for said in recent if not any(mark in said.lower() for mark in SECOND_HAND)]
    return next(iter(first_hand or recent), None)


def note_death(error: BaseException) -> None:
    """In the API process, before vLLM shuts its client down: the engine died of this."""
    _deaths.append(f"{type(error).__name__}: {error}")


def engine_death() -> str | None:
    """After the server ended: None if it was asked to, else what the engine died of."""
    return next(iter(_deaths), None)


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
