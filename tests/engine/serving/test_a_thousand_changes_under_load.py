"""Schedule changes, one after each engine step, with requests running (real vLLM, CPU): as many as the prompts have
steps in `make test-engine`; 1,000 in `make test-engine-full`, at P=2 and with all three modes of P=4.

What is proven: no change, between whichever two steps it comes, makes ranks differ in schedule or step, lets a request
fail or gives it another token. Ranks in different modes would wait for each other for ever: the run would not end.

What is not: async scheduling, where vLLM queues a step while the one before it still runs. CpuPlatform's
check_and_update_config (vllm/platforms/cpu.py) turns it off whatever the flags say; tests/gpu has it. Here the
scheduler lies in the test's process and waits for each step, so that a change always finds the ranks idle. A change
that finds a step under way, from the API process of a served engine, is in test_serving_with_a_schedule_file.py.
"""

from collections.abc import Callable
from typing import Any

import pytest

Run = Callable[[str], dict[str, Any]]
FEW = ("overlay 2x1", "in mid-request", 30)
THOUSAND, THREE_MODES = (("1,000 changes" + which, "1,000 changes", 1000) for which in ("", ", P=4"))
CHANGES = [FEW, *(pytest.param(each, marks=pytest.mark.full) for each in (THOUSAND, THREE_MODES))]


@pytest.fixture(params=CHANGES, ids=["few", "1,000", "1,000 over three modes"])
def found(run: Run, request: pytest.FixtureRequest) -> dict[str, Any]:
    engine, phase, changes = request.param
    answer: dict[str, Any] = run(engine)[phase]
    gpus = 4 if "P=4" in engine else 2
    modes = {"1x4", "2x2", "4x1"} if gpus == 4 else {"1x2", "2x1"}
    return answer | {"wanted": changes, "modes": modes, "stock": run(f"stock TP={gpus}")["stock"]}


def test_every_rank_has_the_same_generation_at_every_step(found: dict[str, Any]) -> None:
    assert found["changes"]["count"] >= found["wanted"]
    assert found["changes"]["disagreements"] == []
    assert found["changes"]["unapplied"] == []


def test_every_change_takes_effect(found: dict[str, Any]) -> None:
    """Schedules of one degree alone lie among those that come in turn, so that at least every third step leaves the
    degree of the one before."""
    steps = found["after"]["step"] - found["before"]["step"]
    assert found["after"]["transitions"] - found["before"]["transitions"] >= steps // 3
    assert {degree for degree, totals in found["after"]["degrees"].items() if totals["steps"]} == found["modes"]
    assert found["after"]["fallbacks"] == {}


def test_tokens_are_those_of_stock_vllm(found: dict[str, Any]) -> None:
    assert found["tokens"] == found["stock"]["tokens"]
    assert found["runs with other tokens"] == 0
