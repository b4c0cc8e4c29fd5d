"""1,000 schedule changes, one after each engine step, with requests running (real vLLM, CPU).

Ranks in different modes would wait for each other for ever, so that the run would not end. vLLM turns async scheduling
off on CPU (platforms/cpu.py), so this says nothing about it.
"""

from collections.abc import Callable
from typing import Any

import pytest

Run = Callable[[str], dict[str, Any]]


@pytest.fixture
def found(run: Run) -> dict[str, Any]:
    answer: dict[str, Any] = run("1,000 changes")["1,000 changes"]
    return answer


def test_every_rank_has_the_same_generation_at_every_step(found: dict[str, Any]) -> None:
    assert found["changes"]["count"] >= 1000
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
