"""What good runs on GPUs showed of two engines' answers to the same prompts is rounding; little more is (alike.py)."""

import math

import pytest
from alike import BFLOAT16, FLOAT32, IN_FP8, Pair, Rounding, pairs

TOKENS = list(range(24))
LOGPROBS = [-2.0] * 24


def alike(equal: int = 24, apart: float = 0.0) -> Pair:
    """An answer whose tokens differ from this one on, and whose log-probabilities up to there are so far apart."""
    differing = TOKENS[:equal] + [100 + token for token in TOKENS[equal:]]
    return Pair(differing, TOKENS, [each + apart for each in LOGPROBS], LOGPROBS)


def test_tokens_count_up_to_the_first_that_differs() -> None:
    """After it the prompts are no longer the same."""
    pair = Pair([1, 2, 9, 4], [1, 2, 3, 4], [-1.0, -1.0, -1.5, -9.0], [-1.0, -1.25, -1.0, -1.0])
    assert (pair.equal, pair.compared, pair.is_same, pair.is_identical) == (2, 3, False, False)
    assert (pair.apart(pair.equal), pair.apart(pair.compared)) == (0.25, 0.5)
    assert alike().is_identical
    assert alike(apart=0.5).is_same
    assert not alike(apart=0.5).is_identical


@pytest.mark.parametrize("other", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_infinitely_far(other: float) -> None:
    assert Pair([1], [1], [other], [-1.0]).apart(1) == math.inf
    assert Pair([1], [1], [-1.0], [other]).apart(1) == math.inf


def test_prompts_that_are_asked_again_and_again_have_the_same_answers() -> None:
    stock = {"tokens": [[1], [2]], "logprobs": [[-1.0], [-2.0]]}
    said = {"tokens": [[1], [2], [1], [7]], "logprobs": [[-1.0], [-2.0], [-1.0], [-2.0]]}
    assert [pair.is_identical for pair in pairs(said, stock)] == [True, True, True, False]


@pytest.mark.parametrize(
    ("rounding", "seen"),
    [
        (FLOAT32, [alike(22, apart=2e-3), *[alike(apart=1e-3)] * 7]),
        (BFLOAT16, [alike(0, apart=0.1), alike(8, apart=0.1), alike(12), alike(20), *[alike(apart=0.09)] * 4]),
        (IN_FP8, [alike(0), alike(0), *[alike(equal, apart=0.4) for equal in (1, 2, 4, 5, 6, 9)]]),
    ],
)
def test_what_good_runs_showed_is_rounding(rounding: Rounding, seen: list[Pair]) -> None:
    assert list(rounding.explains(seen)) == []


@pytest.mark.parametrize(
    ("answers", "sentences"),
    [
        ([alike(18)] * 4 + [alike()] * 4, ["2.3% of the tokens are not stock vLLM's, where rounding turns 1%",
                                          "an answer differs after 75% of its tokens, where rounding leaves 80%"]),
        ([alike(apart=6e-3), *[alike()] * 7], ["log-probabilities are up to 6.0e-03 apart up to the first token that "
                                             "differs, where rounding explains 5.0e-03"]),
        ([alike(23, apart=6e-3), *[alike()] * 7], ["log-probabilities are up to 6.0e-03 apart up to the first token "
                                                 "that differs, where rounding explains 5.0e-03"]),
    ],
)  # fmt: skip
def test_more_than_it_is_a_sentence_each(answers: list[Pair], sentences: list[str]) -> None:
    assert list(FLOAT32.explains(answers)) == sentences


def test_a_bfloat16_answer_may_begin_otherwise_but_not_three_of_eight() -> None:
    begin_otherwise = [alike(0)] * 3 + [alike()] * 5
    assert list(BFLOAT16.explains(begin_otherwise)) == [
        "5 of 8 answers begin as stock vLLM's, where rounding leaves 70%"
    ]
