"""The engine's promise for what a request can ask for, all kinds in one batch (CPU, fp32): chunked prefill, prefix
caching, preemption, log-probabilities, penalties, seeded sampling, structured output, speculative decoding.

vLLM turns async scheduling off on CPU (check_and_update_config of platforms/cpu.py), so tests/gpu has that.
"""

import pytest
from cells import MIXES, MixCell, Played

CLOSE = 1e-4  # of log-probabilities in fp32 between degrees: sums are split differently


@pytest.mark.parametrize("cell", MIXES, ids=str)
def test_answers_are_those_of_stock_vllm(played: Played, cell: MixCell) -> None:
    found = played(cell)
    for phase in cell.phases:
        for kind, stock in found["stock"]["answers"].items():
            answer, where = found[phase]["answers"][kind], f"{phase}, {kind}"
            for what in ("tokens", "text", "cached tokens"):
                assert answer[what] == stock[what], where
            assert_close(answer["logprobs"], stock["logprobs"], where)
            assert_close(answer.get("prompt logprobs", []), stock.get("prompt logprobs", []), where)


@pytest.mark.parametrize("cell", MIXES, ids=str)
def test_never_shifting_is_stock_vllm_bit_for_bit(played: Played, cell: MixCell) -> None:
    assert played(cell)["never"]["answers"] == played(cell)["stock"]["answers"]


@pytest.mark.parametrize("cell", MIXES, ids=str)
def test_the_batch_has_all_that_it_is_for(played: Played, cell: MixCell) -> None:
    """Else the answers would be equal for nothing: requests were preempted, found a prefix, were held to a grammar."""
    for phase in ("stock", *cell.phases):
        answers, counts = played(cell)[phase]["answers"], played(cell)[phase]["counts"]
        assert counts["preempted"] > 0, phase
        assert answers["in chunks, again"]["cached tokens"] > 0, phase
        assert answers["a choice"]["text"] in ("fog", "morning"), phase
        assert '"port"' in answers["JSON"]["text"], phase  # then any number of blanks, which the grammar allows
        assert len(answers["log-probabilities of the prompt"]["prompt logprobs"]) == 60, phase
        assert len(answers["in chunks"]["logprobs"][0]) >= 5, phase


@pytest.mark.parametrize("cell", [cell for cell in MIXES if cell.speculation != "no"], ids=str)
def test_the_same_drafts_are_made_and_accepted(played: Played, cell: MixCell) -> None:
    """EAGLE's draft reads the hidden states that the overlay gathered, and is right by the right ones alone."""
    stock = played(cell)["stock"]["counts"]
    assert 0 < stock["accepted"] < stock["drafted"]
    assert cell.speculation != "EAGLE" or stock["accepted"] > stock["drafted"] / 4
    for phase in cell.phases:
        assert played(cell)[phase]["counts"] == stock, phase


@pytest.mark.parametrize("cell", MIXES, ids=str)
def test_every_step_ran_at_the_degree_asked_for(played: Played, cell: MixCell) -> None:
    found = played(cell)
    assert found["overlay"] == {"active": True, "reason": None}
    assert found["fallbacks"] == {}
    for degree in cell.degrees:
        assert set(found[f"always {degree}"]["degrees"]) == {degree}
    assert set(found["every step another"]["degrees"]) == {f"1x{cell.gpus}", *cell.degrees}


@pytest.mark.parametrize("cell", [cell for cell in MIXES if cell.gpus == 4], ids=str)
def test_steps_have_fewer_rows_than_the_ranks_that_split_them(played: Played, cell: MixCell) -> None:
    """Single tokens, and, where there are drafts, a token with drafts: two or three rows for the four ranks of 4x1."""
    rows = {tokens for tokens, _, _ in played(cell)["always 4x1"]["sent"]}
    assert rows & ({1} if cell.speculation == "no" else {2, 3})
    assert max(rows) > 4


def assert_close(one: list[dict[str, float]], other: list[dict[str, float]], where: str) -> None:
    assert len(one) == len(other), where
    for here, there in zip(one, other, strict=True):
        assert here == pytest.approx(there, abs=CLOSE), where
