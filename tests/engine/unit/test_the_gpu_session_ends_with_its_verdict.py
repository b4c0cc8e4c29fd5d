"""A session ends with a summary and the code that its verdict asks for; its engines are made up here."""

import copy
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import session
from good_session import good_session

OURS, STOCK = "2x1 graphs bfloat16", "stock TP=2 graphs bfloat16"
Play = Callable[..., int]


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Play:
    """play(results, cases) -> the exit code of a session whose engines answer that."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho '0, 0, 143771'; echo '1, 0, 143771'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def play(results: dict[str, Any], *cases: str) -> int:
        monkeypatch.setattr(session, "run", lambda name, *_: results[name])
        if cases:
            monkeypatch.setenv("SESSION_CASES", ",".join(cases))
        return session.main(tmp_path / "out" / "results")

    return play


def summary(tmp_path: Path) -> list[str]:
    return (tmp_path / "out" / "results" / "summary.txt").read_text().splitlines()


def test_a_session_in_which_all_is_well_ends_with_0(
    play: Play, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert play(good_session()) == 0
    lines = summary(tmp_path)
    assert capsys.readouterr().out.splitlines() == lines
    beside = "; ".join(f"TP={gpus} 8/8, 8 exact (0e+00)" for gpus in (2, 4, 8))
    always = next(line for line in lines if line.startswith(f"{OURS} | always |"))
    assert always.startswith(f"{OURS} | always | {beside} | steps {{'1x2': 0, '2x1': 40}} ")
    assert f"{STOCK} | stock | TP=4 8/8, 8 exact (0e+00); TP=8 8/8, 8 exact (0e+00) | steps {{}} " in "".join(lines)
    built = next(line for line in lines if line.startswith("4x1 graphs float32 | 2x2, built while it served |"))
    assert "steps {'1x4': 0, '4x1': 40, '2x2': 40}" in built
    at_start = f"{OURS} | weights {{}}, overlay {{}}, graphs {{'1x2': 512, '2x1': 512}}, degrees 1x2 Loaded, 2x1 Loaded"
    assert f"{at_start}, calibrated in 3.1 s" in lines
    assert not [line for line in lines if "WRONG" in line or "not compared" in line]
    assert json.loads((tmp_path / "out" / "results" / "result.json").read_text()).keys() == set(session.CASES)


def test_what_is_wrong_stands_at_the_end_and_the_code_is_1(play: Play, tmp_path: Path) -> None:
    results = copy.deepcopy(good_session())
    results[OURS]["phases"]["always"]["tokens"] = [[5] * 24] * 8
    assert play(results, OURS, STOCK) == 1
    wrong = [line for line in summary(tmp_path) if line.startswith("WRONG: ")]
    assert summary(tmp_path)[-len(wrong) :] == wrong
    assert wrong[0].startswith(f"WRONG: {OURS}: always: ")


def test_a_case_of_its_own_is_said_to_be_compared_with_nothing(play: Play, tmp_path: Path) -> None:
    assert play(good_session(), OURS) == 0
    assert summary(tmp_path)[-1] == f"{OURS}: not compared with {STOCK}, which was left out"


def test_a_case_that_found_no_time_is_wrong(play: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESSION_SECONDS", "1")
    assert play(good_session(), STOCK) == 1
    assert f"WRONG: {STOCK}: failed, not run: the time was used up" in summary(tmp_path)


def test_answers_of_a_session_before_are_not_those_of_an_engine_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process is real, and dies before it has a model."""
    (tmp_path / "out").mkdir()
    (tmp_path / f"{STOCK.replace(' ', '_').replace('=', '')}.json").write_text(json.dumps(good_session()[STOCK]))
    monkeypatch.setattr(sys, "executable", "/bin/false")
    result = session.run(STOCK, tmp_path / "out", dict(os.environ), 60)
    assert (result["phases"], result["failed"]) == ({}, "1")


def test_an_engine_whose_model_could_not_be_written_is_not_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process is real. What it said stands in the log; that of an engine would be about a model on a hub."""
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$(basename "$1")"; exit 7\n')
    python.chmod(0o755)
    (tmp_path / "out").mkdir()
    monkeypatch.setattr(sys, "executable", str(python))
    assert session.run(STOCK, tmp_path / "out", dict(os.environ), 60)["failed"] == "7"
    assert (tmp_path / f"{STOCK.replace(' ', '_').replace('=', '')}.log").read_text() == "write_model.py\n"
