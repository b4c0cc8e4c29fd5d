"""The self-check at start on GPUs: an overlay that is right by itself is found where its KV cache is not the host's."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from shift_engine.degree import Degree
from shift_engine.degree_checks import Check, DegreeChecks
from shift_engine.self_check import Distance
from shift_engine.trial_steps import TrialSteps

FULL, OVERLAY = Degree(1, 2), Degree(2, 1)


class Steps(TrialSteps):
    """Of one rank of two without vLLM, whose decodes are wrong between two degrees."""

    def __init__(self, wrong: tuple[Degree, Degree] | None = None) -> None:
        self._wrong, self.ran = wrong, list[Any]()

    def prompt(self, prefill: Degree, decode: Degree, tokens: int) -> torch.Tensor:
        self.ran.append((str(prefill), str(decode), tokens))
        hidden = torch.ones(tokens + 1, 8)
        if (prefill, decode) == self._wrong:
            hidden[-1] = -1
        return hidden

    def dummy(self, degree: Degree, tokens: int) -> torch.Tensor:
        self.ran.append((str(degree), tokens))
        return torch.ones(tokens, 8)

    def _synchronize(self) -> None:
        """There is no device."""


def checks(steps: Steps) -> DegreeChecks:
    return DegreeChecks(steps, FULL, Distance(0.01, 0.01), largest_step=512, longest_prompt=256)


def problems(asked: list[Check]) -> list[str]:
    return [problem for check in asked if (problem := check())]


@pytest.mark.parametrize("wrong", [(FULL, OVERLAY), (OVERLAY, FULL), (OVERLAY, OVERLAY)], ids=lambda pair: str(pair[0]))
def test_a_cache_that_the_other_cannot_read_is_named(wrong: tuple[Degree, Degree]) -> None:
    found = problems(checks(Steps(wrong)).at_start(OVERLAY, 512))
    assert found
    assert all(f"between 1x2 and prefill at {wrong[0]}, decode at {wrong[1]}, where rounding" in each for each in found)


def test_one_that_is_right_passes_after_prompts_of_every_kind() -> None:
    steps = Steps()
    assert problems(checks(steps).at_start(OVERLAY, 512)) == []
    assert {("1x2", "2x1", 61), ("2x1", "1x2", 61), ("2x1", "2x1", 61), ("1x2", "1x2", 61)} < set(steps.ran)
    assert max(tokens for *_, tokens in steps.ran) == 254  # of the largest graph, within the model's length


def test_while_serving_no_cache_is_written_and_the_largest_step_is_tried() -> None:
    steps = Steps()
    assert problems(checks(steps).while_serving(OVERLAY)) == []
    assert steps.ran == [("1x2", 61), ("2x1", 61), ("2x1", 512)]


def test_graphs_of_whole_steps_run_beside_those_of_pieces() -> None:
    steps, in_pieces = Steps(), list[bool]()

    @contextmanager
    def stock_host() -> Iterator[None]:
        ran = len(steps.ran)
        yield
        in_pieces.append(len(steps.ran) == ran + 1)

    assert problems(checks(steps).of_whole_graphs(stock_host, 128)) == []
    assert steps.ran == [("1x2", "1x2", tokens) for tokens in (61, 61, 127, 127)]
    assert in_pieces == [True, True]
