"""Schedule changes, one after each engine step, with requests running (real vLLM, CPU): 1,000 in
`make test-engine-full`, as many as the prompts have steps in `make test-engine`.

Ranks in different modes would wait for each other for ever, so that the run would not end. vLLM turns async scheduling
off on CPU (platforms/cpu.py), so this says nothing about it.
"""

from collections.abc import Callable
from typing import Any

import pytest

Run = Callable[[str], dict[str, Any]]
FEW, THOUSAND = ("overlay 2x1", "in mid-request", 30), ("1,000 changes", "1,000 changes", 1000)


@pytest.fixture(params=[FEW, pytest.param(THOUSAND, marks=pytest.mark.full)], ids=["few", "1,000"])
def found(run: Run, request: pytest.FixtureRequest) -> dict[str, Any]:
    engine, phase, changes = request.param
    answer: dict[str, Any] = run(engine)[phase]
    return answer | {"wanted": changes}


def test_every_rank_has_the_same_generation_at_every_step(found: dict[str, Any]) -> None:
    assert found["changes"]["count"] >= found["wanted"]
    assert found["changes"]["disagreements"] == []
    assert found["changes"]["unapplied"] == []


def test_every_change_takes_effect(found: dict[str, Any]) -> None:
    """Never, mixed and always in turn: of three steps at least one leaves the degree of the one before."""
    steps = found["after"]["step"] - found["before"]["step"]
    assert found["after"]["transitions"] - found["before"]["transitions"] >= steps // 3
    assert found["after"]["fallbacks"] == {}


def test_tokens_are_those_of_stock_vllm(run: Run, found: dict[str, Any]) -> None:
    assert found["tokens"] == run("stock TP=2")["stock"]["tokens"]
    assert found["runs with other tokens"] == 0
