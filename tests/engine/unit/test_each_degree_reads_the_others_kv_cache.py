"""The self-check at start on GPUs: an overlay that is right by itself is found where its KV cache is not the host's."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from shift_engine.degree import Degree
from shift_engine.self_check import Distance
from shift_engine.worker import ShiftWorker

FULL, OVERLAY = Degree(1, 2), Degree(2, 1)


class Rank(ShiftWorker):
    """One rank of two without vLLM, whose decodes are wrong between two degrees."""

    _rounding = Distance(0.01, 0.01)

    def __init__(self, wrong: tuple[Degree, Degree] | None, *, serving: bool = False) -> None:
        self._wrong, self._full, self._serving, self._captures = wrong, FULL, serving, True
        self._largest_step, self.use_v2_model_runner = 512, True
        self.model_config: Any = SimpleNamespace(max_model_len=256)
        self.load_config: Any = SimpleNamespace(load_format="auto")
        self.ran: list[Any] = []

    def _prompt(self, prefill: Degree, decode: Degree, tokens: int) -> torch.Tensor:
        self.ran.append((str(prefill), str(decode), tokens))
        hidden = torch.ones(tokens + 1, 8)
        if (prefill, decode) == self._wrong:
            hidden[-1] = -1
        return hidden

    def _dummy_step(self, degree: Degree, tokens: int) -> torch.Tensor:
        self.ran.append((str(degree), tokens))
        return torch.ones(tokens, 8)

    def synchronize_device(self) -> None:
        """There is none."""


def problems(rank: Rank) -> list[str]:
    return [problem for check in rank._checks(OVERLAY) if (problem := check())]


@pytest.mark.parametrize("wrong", [(FULL, OVERLAY), (OVERLAY, FULL), (OVERLAY, OVERLAY)], ids=lambda pair: str(pair[0]))
def test_a_cache_that_the_other_cannot_read_is_named(wrong: tuple[Degree, Degree]) -> None:
    found = problems(Rank(wrong))
    assert found
    assert all(f"between 1x2 and prefill at {wrong[0]}, decode at {wrong[1]}, where rounding" in each for each in found)


def test_one_that_is_right_passes_after_prompts_of_every_kind() -> None:
    rank = Rank(None)
    assert problems(rank) == []
    assert {("1x2", "2x1", 61), ("2x1", "1x2", 61), ("2x1", "2x1", 61), ("1x2", "1x2", 61)} < set(rank.ran)
    assert max(tokens for *_, tokens in rank.ran) == 254  # of the largest graph, within the model's length


def test_while_serving_no_cache_is_written_and_the_largest_step_is_tried() -> None:
    rank = Rank(None, serving=True)
    assert problems(rank) == []
    assert rank.ran == [("1x2", 61), ("2x1", 61), ("2x1", 512)]
