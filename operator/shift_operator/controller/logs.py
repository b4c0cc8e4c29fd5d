"""JSON logs: a fixed text with fields, one object per line on standard error.

    {"time": "2026-11-24T11:02:03.120Z", "level": "INFO", "logger": "...", "message": "applied", "key": "prod/chat"}

Texts never carry values, so that a log store can count them; values are fields, given as `extra`.
"""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime

from pythonjsonlogger.json import JsonFormatter


class _Formatter(JsonFormatter):
    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 (logging's name)
        return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def configure_logs(level: str) -> None:
    """Sends every log of the process to standard error as JSON, from `level` up; kopf's chatter from WARNING up."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        _Formatter(
            "{asctime}{levelname}{name}{message}",
            style="{",
            rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    quiet = max(logging.WARNING, root.level)
    for name in ("kopf", "aiohttp.access", "asyncio", "urllib3"):
        logging.getLogger(name).setLevel(quiet)
