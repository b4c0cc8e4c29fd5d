"""The step ledger: every rank chooses the same degree for the same step, and counts what ran."""

import random

import pytest
from shift_engine.curves import StepTimeCurves
from shift_engine.degree import Degree
from shift_engine.schedule import Schedule, TokenRange
from shift_engine.steps import FOLDED_TOGETHER, TOKEN_BUCKETS, FallbackReason, StepLedger, StepOutcome

TENSOR, SEQUENCE = Degree(1, 2), Degree(2, 1)


def between(began: float, ended: float) -> float:
    return ended - began


def ledger(threshold: int = 100, probe_share: float = 0.0, *, active: bool = True) -> StepLedger:
    new = StepLedger(Schedule.two_ranges(threshold, SEQUENCE), between, max_tokens=2048, probe_share=probe_share)
    new.loaded = {SEQUENCE} if active else set()
    return new


def test_a_step_runs_at_the_degree_of_its_range() -> None:
    assert [ledger().wanted(n) for n in (1, 100, 101)] == [TENSOR, TENSOR, SEQUENCE]


def test_a_new_schedule_and_a_new_degree_decide_the_very_next_step() -> None:
    changing = ledger(threshold=100, active=False)
    assert changing.wanted(200) == TENSOR
    changing.loaded = {SEQUENCE}
    assert changing.wanted(200) == SEQUENCE
    changing.schedule = Schedule.two_ranges(300, SEQUENCE)
    assert changing.wanted(200) == TENSOR
    assert changing.fallbacks == {FallbackReason.OVERLAY_INACTIVE: 1}


def test_ranks_agree_on_every_step_with_probes_and_changing_schedules() -> None:
    ranks = [ledger(probe_share=0.1) for _ in range(4)]
    dice = random.Random(1)
    for step in range(2000):
        if step % 50 == 49:
            schedule = Schedule.two_ranges(dice.randint(1, 300), SEQUENCE)
            for rank in ranks:
                rank.schedule = schedule
        tokens = dice.randint(1, 400)
        assert len({rank.wanted(tokens) for rank in ranks}) == 1


def test_a_probe_is_one_step_in_so_many_near_the_threshold() -> None:
    probing = ledger(probe_share=0.005)
    chosen = [probing.wanted(120) for _ in range(1000)]
    assert chosen.count(TENSOR) == 5
    assert [probing.wanted(n) for n in (1, 60, 160) for _ in range(400)].count(SEQUENCE) == 400  # far from it: none


def test_no_probe_where_one_degree_runs_all_steps() -> None:
    for threshold in (0, 10**6):
        probing = ledger(threshold, probe_share=0.5)
        assert len({probing.wanted(n) for n in range(1, 2049)}) == 1


def test_without_an_overlay_steps_fall_back_and_are_counted() -> None:
    plain = ledger(active=False, probe_share=0.5)
    assert {plain.wanted(n) for n in range(90, 120)} == {TENSOR}
    assert plain.fallbacks == {FallbackReason.OVERLAY_INACTIVE: 19}


def test_what_ran_is_counted_by_degree() -> None:
    counting = ledger()
    for tokens, degree in ((1, TENSOR), (7, TENSOR), (301, SEQUENCE), (10**6, SEQUENCE), (1, TENSOR)):
        pad_tokens = tokens % 2 if degree == SEQUENCE else 0
        counting.ran(StepOutcome(degree, pad_tokens), tokens, began=7.0, ended=7.5)
    totals = counting.totals[SEQUENCE]
    assert (totals.steps, totals.tokens, totals.seconds) == (2, 1000301, 1.0)
    assert totals.buckets[TOKEN_BUCKETS.index(384)] == 1
    assert totals.buckets[-1] == 1
    assert (counting.transitions, counting.pad_tokens) == (2, 1)


@pytest.mark.parametrize("steps", [1, FOLDED_TOGETHER - 1, FOLDED_TOGETHER, 3 * FOLDED_TOGETHER + 1])
def test_every_step_is_counted_once_however_many_there_were(steps: int) -> None:
    counting = ledger()
    counting.curves = StepTimeCurves((1, 64), {TENSOR: (0.1, 0.1), SEQUENCE: (0.1, 0.1)})
    for i in range(steps):
        counting.ran(StepOutcome((TENSOR, SEQUENCE)[i % 2], pad_tokens=1), 3, began=0.0, ended=0.2)
    for _ in range(2):  # and asking changes nothing
        assert sum(totals.steps for totals in counting.totals.values()) == steps
        assert sum(totals.seconds for totals in counting.totals.values()) == pytest.approx(0.2 * steps)
        assert (counting.transitions, counting.pad_tokens) == (steps - 1, steps)
    twins = StepTimeCurves((1, 64), {TENSOR: (0.1, 0.1), SEQUENCE: (0.1, 0.1)})
    for i in range(steps):
        twins.observe((TENSOR, SEQUENCE)[i % 2], 3, 0.2)
    assert counting.curves.seconds(TENSOR) == twins.seconds(TENSOR)


def test_a_step_is_counted_when_its_time_is_known() -> None:
    known: list[float] = []

    def once_known(began: float, ended: float) -> float | None:
        return ended - began if ended in known else None

    late = StepLedger(Schedule.two_ranges(100, SEQUENCE), once_known, max_tokens=2048, probe_share=0.0)
    for i in range(3):
        late.ran(StepOutcome(TENSOR), 3, began=i, ended=i + 0.5)
    assert late.totals == {}
    known += [0.5, 1.5]
    assert (late.totals[TENSOR].steps, late.totals[TENSOR].seconds) == (2, 1.0)
    for i in range(3, 3 * FOLDED_TOGETHER):  # the stream stands
        late.ran(StepOutcome(TENSOR), 3, began=i, ended=i + 0.5)
    assert late.totals[TENSOR].steps == 2
    known += [i + 0.5 for i in range(2, 3 * FOLDED_TOGETHER)]
    assert (late.totals[TENSOR].steps, late.totals[TENSOR].seconds) == (3 * FOLDED_TOGETHER, 1.5 * FOLDED_TOGETHER)


def test_inputs_that_only_the_host_can_take_are_a_fallback_of_their_own() -> None:
    counting = ledger(active=False)
    counting.wanted(200)
    counting.ran(StepOutcome(TENSOR, fallback=FallbackReason.INPUTS), 3, began=0.0, ended=0.2)
    assert counting.fallbacks == {FallbackReason.OVERLAY_INACTIVE: 1, FallbackReason.INPUTS: 1}


def test_a_degree_that_is_not_loaded_runs_as_tensor_parallelism_and_is_never_probed() -> None:
    """Three ranges at P=4, of which the middle one's degree could not be loaded."""
    full, halves, alone = Degree(1, 4), Degree(2, 2), Degree(4, 1)
    three = Schedule(1, (TokenRange(10, full), TokenRange(100, halves), TokenRange(None, alone)))
    partly = StepLedger(three, between, max_tokens=2048, probe_share=0.5)
    partly.loaded = {alone}
    assert [partly.wanted(n) for n in (2, 20, 1000)] == [full, full, alone]
    assert partly.fallbacks == {FallbackReason.OVERLAY_INACTIVE: 1}
    assert {partly.wanted(n) for n in (8, 9, 10) for _ in range(20)} == {full}
    assert {partly.wanted(n) for n in (101, 120) for _ in range(20)} == {alone}


def test_a_probe_takes_the_range_on_the_other_side_of_the_bound() -> None:
    full, halves, alone = Degree(1, 4), Degree(2, 2), Degree(4, 1)
    three = Schedule(1, (TokenRange(10, full), TokenRange(100, halves), TokenRange(None, alone)))
    probing = StepLedger(three, between, max_tokens=2048, probe_share=0.5)
    probing.loaded = {halves, alone}
    assert {probing.wanted(12) for _ in range(4)} == {full, halves}
    assert {probing.wanted(90) for _ in range(4)} == {halves, alone}
