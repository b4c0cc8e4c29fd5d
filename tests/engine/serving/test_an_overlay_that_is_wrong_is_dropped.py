"""Each overlay is checked against the host at start: one that fails goes, with a reason, and steps run 1 x P."""

from collections.abc import Callable
from typing import Any

Run = Callable[[str], dict[str, Any]]
FAULTY = "4x1 and 2x2, faulty"


def test_one_that_computes_something_else_and_one_that_does_not_run_name_it(run: Run) -> None:
    reports = {f"{each['sequence']}x{each['tensor']}": each for each in run(FAULTY)["start"]["reports"]}
    assert reports["1x4"]["state"] == "Loaded"
    assert reports["4x1"]["state"] == reports["2x2"]["state"] == "NeedsRestart"
    assert reports["4x1"]["reason"] == "it does not run: RuntimeError: no kernel for this GPU"
    assert reports["2x2"]["reason"].startswith(
        "the self-check failed: a token's hidden state differs by 2.0e+00 (2.0e+00 in the median) of its length"
    )
    assert run(FAULTY)["start"]["overlay"] == {"active": False, "reason": reports["4x1"]["reason"]}


def test_neither_is_timed_or_chosen(run: Run) -> None:
    start = run(FAULTY)["start"]
    assert list(start["calibration"]["curves"]) == ["1x4"]
    assert start["schedule"]["ranges"] == [{"sequence": 1, "tensor": 4}]


def test_the_engine_serves_as_stock_vllm_and_counts_what_the_schedule_asked_for(run: Run) -> None:
    found, stock = run(FAULTY)["always"], run("stock TP=4")["stock"]
    assert found["tokens"] == stock["tokens"]
    assert found["logprobs"] == stock["logprobs"]
    assert found["after"]["fallbacks"] == {"OverlayInactive": found["after"]["step"]}
