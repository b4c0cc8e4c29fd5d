"""A log line is a fixed text with fields."""

import json
import logging
from collections.abc import Iterator

import pytest
from shift_operator.controller.logs import configure_logs


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in ("kopf", "aiohttp.access", "asyncio", "urllib3")}
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def test_a_line_has_time_level_logger_text_and_the_fields(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("INFO")
    logging.getLogger("shift_operator.test").info("applied", extra={"key": "prod/chat", "generation": 14})
    logging.getLogger("shift_operator.test").debug("nothing to do")
    line = json.loads(capsys.readouterr().err)
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "INFO",
        "logger": "shift_operator.test",
        "message": "applied",
        "key": "prod/chat",
        "generation": 14,
    }


def test_a_stack_trace_stays_within_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("INFO")
    try:
        raise ValueError("a bug")
    except ValueError as error:
        logging.getLogger("shift_operator.test").error("reconcile failed", exc_info=error)
    (line,) = capsys.readouterr().err.splitlines()
    assert "ValueError: a bug" in json.loads(line)["exc_info"]
