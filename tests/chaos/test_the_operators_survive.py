"""Things go wrong under the operators; afterwards the state is as planned, and what must always hold has held.

That is in `chaos.settles()`: a single writer at any time, no pod deleted beyond the budget.
"""

import time
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.chaos.conftest import NAMES, OF_TEAM, wait_until

pytestmark = pytest.mark.timeout(900)

OUTAGE_SECONDS = 60
TOGETHER_SECONDS = 300
DAY_SECONDS = 86_400


def test_leaders_are_killed_one_after_the_other_in_mid_rollout(chaos: Any) -> None:
    before = chaos.pods_deleted()
    for round_ in range(3):
        wait_until(lambda: chaos.leader() is not None)
        leader = chaos.leader()
        chaos.roll(NAMES[round_], 300 + round_)
        chaos.lose(*NAMES)
        leader.process.kill()
        for name in NAMES:
            chaos.edit(name, 300 + round_)
        chaos.settles()
    assert chaos.pods_deleted() > before, "the rollouts took pods, so that there was a budget to keep"


def test_the_api_server_is_killed_and_away_for_a_minute(chaos: Any) -> None:
    begun = sum(operator.begun for operator in chaos.everyone.operators)
    chaos.roll("one", 400)
    chaos.lose(*NAMES)
    chaos.edit("one", 401)
    chaos.cluster.process("kube-apiserver").kill()
    time.sleep(OUTAGE_SECONDS)
    chaos.cluster.restart("kube-apiserver")
    chaos.edit("two", 402)
    chaos.edit("four", 404)
    chaos.settles()
    assert sum(one.begun for one in chaos.everyone.operators) > begun, "the leader ended when its lease ran out"


def test_etcd_is_killed_and_comes_back(chaos: Any) -> None:
    chaos.roll("one", 500)
    chaos.edit("one", 501)
    chaos.cluster.process("etcd").kill()
    time.sleep(5)
    chaos.cluster.restart("etcd")
    wait_until(lambda: chaos.edits_again("three", 503))
    chaos.lose("two")
    chaos.settles()


def test_watches_are_cut_again_and_again(chaos: Any) -> None:
    cut = 0
    for round_ in range(10):
        chaos.edit(NAMES[round_ % 3], 600 + round_)
        cut += chaos.proxy.cut()
        chaos.lose(NAMES[round_ % 3])
        time.sleep(0.5)
    assert cut > 10, "there were watches to cut"
    chaos.settles()


def test_five_hundred_edits_come_at_once(chaos: Any) -> None:
    names = (*NAMES, *OF_TEAM)
    chaos.edit_rapidly([(names[at % len(names)], 700 + at) for at in range(500)])
    chaos.settles()


def test_the_api_server_refuses_every_third_request(chaos: Any) -> None:
    before = chaos.proxy.faults
    chaos.proxy.fail(0.33, 429, 500, 503)
    chaos.roll("two", 1300)
    for round_ in range(15):
        chaos.edit(NAMES[round_ % 3], 1300 + round_)
        chaos.lose(NAMES[round_ % 3])
        time.sleep(1)
    chaos.settles()  # under the faults
    assert chaos.proxy.faults > before + 20
    chaos.proxy.fail(0)
    chaos.settles()


def test_clocks_jump_by_a_day_in_mid_rollout_one_ahead_and_one_back(chaos: Any) -> None:
    """The clocks of the leader and of who follows it then differ by two days, and by none again at the end."""
    ahead, back = chaos.everyone.clocks
    for round_, (first, second) in enumerate([(DAY_SECONDS, -DAY_SECONDS), (-DAY_SECONDS, DAY_SECONDS), (0, 0)]):
        wait_until(lambda: chaos.leader() is not None)
        leader = chaos.leader()
        chaos.roll("one", 1400 + round_)
        ahead.set_off(first)
        back.set_off(second)
        chaos.edit("one", 1400 + round_)
        chaos.settles()
        if first:
            told = chaos.place.get("sd", "one")["status"]["shift"]["lastChangeTime"]
            assert abs(_seconds_from_now(told)) > DAY_SECONDS / 2, "the operator's clock was set off"
            chaos.lose(*NAMES)
            leader.process.kill()
            chaos.edit("two", 1400 + round_)
            chaos.settles()


def test_two_operators_and_a_second_install_work_together_for_five_minutes(chaos: Any) -> None:
    end = time.monotonic() + TOGETHER_SECONDS
    round_ = 0
    while time.monotonic() < end:
        name = (*NAMES, *OF_TEAM)[round_ % 4]
        chaos.edit(name, 400 + round_)
        chaos.lose(name)
        if round_ % 5 == 0:
            chaos.roll(name, 1500 + round_)
        round_ += 1
        time.sleep(2)
    chaos.settles()
    assert round_ > 8, "each ShiftDeployment was edited"


def _seconds_from_now(told: str) -> float:
    return (datetime.fromisoformat(told) - datetime.now(UTC)).total_seconds()
