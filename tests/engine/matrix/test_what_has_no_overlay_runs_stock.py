"""Models and configurations without an overlay run plain tensor parallelism, and the engine says why (CPU, fp32).

vLLM 0.32 on CPU starts Mamba and pipeline parallelism but cannot run a step of either,
stock or not (no selective_scan_fwd; no intermediate tensors on the second stage), so there the reason alone is tested.
"""

import pytest
from cells import PLAIN, PlainCell, Played


@pytest.mark.parametrize("cell", PLAIN, ids=str)
def test_the_reason_is_named(played: Played, cell: PlainCell) -> None:
    overlay = played(cell)["stats"]["overlay"]
    assert overlay["active"] is False
    assert overlay["reason"].startswith(cell.reason)


@pytest.mark.parametrize("cell", [cell for cell in PLAIN if cell.generates], ids=str)
def test_tokens_are_those_of_stock_vllm_and_the_steps_are_counted(played: Played, cell: PlainCell) -> None:
    found = played(cell)
    assert found["always"] == found["stock"]
    assert found["stats"]["fallbacks"] == {"OverlayInactive": found["stats"]["step"]}
    assert set(found["stats"]["degrees"]) == {"1x2"}


@pytest.mark.parametrize("cell", [cell for cell in PLAIN if cell.adapter], ids=str)
def test_an_adapter_answers_as_under_stock_vllm(played: Played, cell: PlainCell) -> None:
    found = played(cell)
    assert found["always, adapter"] == found["stock, adapter"]
    assert found["stock, adapter"]["tokens"] != found["stock"]["tokens"]
