"""Notes of what vLLM's processes log, and the sentence made of them."""

import json
import logging
import time
from pathlib import Path

import pytest
from shift_engine import termination


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "notes"
    path.touch()
    monkeypatch.setenv(termination.NOTES, str(path))
    return path


def test_the_workers_error_comes_before_those_that_only_point_to_it(notes: Path) -> None:
    for error in (
        RuntimeError("WorkerProc initialization failed. See stack trace for root cause."),
        KeyError("model.layers.0.weight"),
        RuntimeError("Engine core initialization failed. See root cause above."),
    ):
        termination.note(notes, termination.sentence(error))
    assert termination.cause(notes) == "KeyError: 'model.layers.0.weight'"


def test_where_all_point_elsewhere_the_first_is_told(notes: Path) -> None:
    termination.note(notes, "RuntimeError: See root cause above.")
    assert termination.cause(notes) == "RuntimeError: See root cause above."
    notes.write_text("")
    assert termination.cause(notes) is None


def test_what_was_said_long_before_a_death_is_not_its_cause(notes: Path) -> None:
    old = {"at": time.time() - 3600, "said": "ValueError: a request of an hour ago"}
    notes.write_text(json.dumps(old) + "\n")
    termination.note(notes, "Worker proc VllmWorker-1 died unexpectedly")
    assert termination.cause(notes, within_seconds=30) == "Worker proc VllmWorker-1 died unexpectedly"


def test_notes_stay_short_however_long_the_server_lives(notes: Path) -> None:
    for _ in range(1000):
        termination.note(notes, "x" * termination.LONGEST)
    assert notes.stat().st_size < 2 * termination.LONGEST_NOTES


def test_errors_that_vllm_logs_with_their_exception_are_noted(notes: Path) -> None:
    termination.take_notes()
    termination.take_notes()  # vLLM may load a plugin twice
    logger = logging.getLogger("vllm.v1.engine.core")
    try:
        logger.error("no exception")
        try:
            raise ValueError("not enough KV cache")
        except ValueError:
            logger.exception("EngineCore failed to start.")
        logger.error("Worker proc %s died unexpectedly (exit code: %s), shutting down executor.", "VllmWorker-1", -9)
        said = [json.loads(line)["said"] for line in notes.read_text().splitlines()]
        assert said == [
            "ValueError: not enough KV cache",
            "Worker proc VllmWorker-1 died unexpectedly (exit code: -9), shutting down executor.",
        ]
    finally:
        takers = [h for h in logging.getLogger("vllm").handlers if isinstance(h, termination.NoteTaker)]
        for taker in takers:
            logging.getLogger("vllm").removeHandler(taker)
    assert len(takers) == 1


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError("no\n  such   model"), "OSError: no such model"),
        (RuntimeError(), "RuntimeError"),
        (
            ValueError("1 validation error for ModelConfig\n  Value error, Invalid ID [type=value_error, in"),
            "ValueError: 1 validation error for ModelConfig Invalid ID",
        ),
    ],
)
def test_an_exception_becomes_one_line(error: Exception, said: str) -> None:
    assert termination.sentence(error) == said


def test_a_long_one_is_cut() -> None:
    assert len(termination.sentence(ValueError("x" * 10_000))) == termination.LONGEST


def test_a_message_path_that_cannot_be_written_is_said_on_stderr(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(termination.MESSAGE, str(tmp_path))
    termination.leave_message("the engine died")
    assert "the engine died" in capsys.readouterr().err
