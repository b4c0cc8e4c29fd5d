"""The step ledger: every rank chooses the same degree for the same step, and counts what ran."""

import random

from shift_engine.degree import Degree
from shift_engine.schedule import Schedule
from shift_engine.steps import TOKEN_BUCKETS, FallbackReason, StepLedger

TENSOR, SEQUENCE = Degree(1, 2), Degree(2, 1)


def ledger(threshold: int = 100, probe_share: float = 0.0, *, active: bool = True) -> StepLedger:
    new = StepLedger(Schedule.two_ranges(threshold, SEQUENCE), max_tokens=2048, probe_share=probe_share)
    new.active = active
    return new


def test_a_step_runs_at_the_degree_of_its_range() -> None:
    assert [ledger().wanted(n) for n in (1, 100, 101)] == [TENSOR, TENSOR, SEQUENCE]


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
        counting.ran(degree, tokens, pad_tokens=tokens % 2 if degree == SEQUENCE else 0)
        counting.took(degree, tokens, 0.5)
    totals = counting.totals[SEQUENCE]
    assert (totals.steps, totals.tokens, totals.seconds) == (2, 1000301, 1.0)
    assert totals.buckets[TOKEN_BUCKETS.index(384)] == 1
    assert totals.buckets[-1] == 1
    assert (counting.transitions, counting.pad_tokens) == (2, 1)
