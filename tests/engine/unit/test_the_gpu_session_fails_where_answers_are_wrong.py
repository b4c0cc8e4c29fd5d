"""A session on a GPU is a test: what its engines said is judged against stock vLLM of the same run."""

import copy
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[2] / "gpu"))

OURS, BUILT = "2x1 graphs bfloat16", "4x1 graphs float32"
PROMPTS = 10


def said(**more: Any) -> dict[str, Any]:
    return {"tokens": [[5, 7, 9]] * PROMPTS, "logprobs": [[-1.0, -2.0, -3.0]] * PROMPTS, **more}


def by_us(**more: Any) -> dict[str, Any]:
    return said(stats={"fallbacks": {}}) | more


def start(degree: str, graphs: int = 512) -> dict[str, Any]:
    sequence, tensor = map(int, degree.split("x"))
    report = {"sequence": sequence, "tensor": tensor, "state": "Loaded"}
    return {"reports": [report], "graphs": {degree: graphs}}


@pytest.fixture
def results() -> dict[str, Any]:
    """A session in which all is well."""
    around = ", around each capture size"
    return copy.deepcopy(
        {
            "stock TP=2 graphs bfloat16": {"phases": {"stock": said(), "stock" + around: said()}},
            "stock TP=4 graphs float32": {"phases": {"stock": said(), "stock" + around: said()}},
            OURS: {
                "at start": start("2x1"),
                "phases": {
                    "never": by_us(),
                    "always": by_us(),
                    "always" + around: by_us(),
                    "live changes": by_us(changes=200) | {"ranks agreed at every change": True},
                },
            },
            "2x1 stock-graphs bfloat16": {"at start": start("2x1", 0), "phases": {"never": by_us()}},
            BUILT: {
                "at start": start("4x1"),
                "phases": {"2x2, built while it served": by_us(built={"state": "Loaded"})},
            },
            "kernels": {"phases": {}},
        }
    )


def verdict(results: dict[str, Any]) -> list[str]:
    from verdict import problems

    return list(problems(results))


def test_a_session_in_which_all_is_well_has_no_problem(results: dict[str, Any]) -> None:
    assert verdict(results) == []


def test_a_case_that_failed_is_one(results: dict[str, Any]) -> None:
    results["kernels"]["failed"] = "1"
    assert verdict(results) == ["kernels: failed, 1"]


def test_an_overlay_that_is_not_there_is_one(results: dict[str, Any]) -> None:
    results[OURS]["at start"]["reports"][0] |= {"state": "NeedsRestart", "reason": "the self-check failed"}
    results[BUILT]["phases"]["2x2, built while it served"]["built"] = {"state": "NeedsRestart", "reason": "no room"}
    results[OURS]["phases"]["always"]["stats"]["fallbacks"] = {"OverlayInactive": 3}
    assert verdict(results) == [
        f"{OURS}: 2x1 is NeedsRestart: the self-check failed",
        f"{OURS}, always: steps fell back, {{'OverlayInactive': 3}}",
        f"{BUILT}, 2x2, built while it served: 2x2 is NeedsRestart: no room",
    ]


def test_graphs_that_are_missing_are_one(results: dict[str, Any]) -> None:
    results[OURS]["at start"]["graphs"]["2x1"] = 0
    assert verdict(results) == [f"{OURS}: 2x1 has graphs of up to 0 tokens with graphs"]


def test_ranks_that_disagree_are_one(results: dict[str, Any]) -> None:
    results[OURS]["phases"]["live changes"]["ranks agreed at every change"] = False
    assert verdict(results) == [f"{OURS}, live changes: after 200 changes the ranks agreed: False"]


def test_what_rounding_turns_is_none(results: dict[str, Any]) -> None:
    """A token that is chosen otherwise, and what follows from it."""
    phase = results[OURS]["phases"]["always"]
    phase["tokens"] = [[5, 8, 1]] * PROMPTS
    phase["logprobs"] = [[-1.1, -2.05, -9.0]] * PROMPTS
    assert verdict(results) == []


def test_what_rounding_does_not_explain_is_one(results: dict[str, Any]) -> None:
    results[OURS]["phases"]["always"]["logprobs"][3] = [-1.0, -2.0, -3.3]
    explained = "log-probabilities are up to 3.0e-01 apart before tokens differ, where rounding explains 1.5e-01"
    assert verdict(results) == [f"{OURS}, always: {explained}"]


def test_other_tokens_from_the_first_on_are_one(results: dict[str, Any]) -> None:
    results[OURS]["phases"]["always, around each capture size"]["tokens"] = [[1, 2, 3]] * 5 + [[5, 7, 9]] * 5
    assert verdict(results) == [
        f"{OURS}, always, around each capture size: 5 of 10 prompts have stock vLLM's tokens, where rounding leaves 80%"
    ]


def test_where_all_is_stock_one_bit_is_one(results: dict[str, Any]) -> None:
    name = "2x1 stock-graphs bfloat16"
    results[name]["phases"]["never"]["logprobs"][0] = [-1.0, -2.0, -3.0001]
    assert verdict(results) == [
        f"{name}, never: 10 of 10 prompts have stock vLLM's tokens, up to 1.0e-04 apart, where all is stock"
    ]
