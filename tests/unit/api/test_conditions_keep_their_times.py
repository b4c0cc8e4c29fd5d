"""A condition's transition time is when its status changed, not when its words did."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from shift_operator.api.conditions import (
    MAX_MESSAGE,
    AvailableReason,
    Condition,
    ConditionStatus,
    ConditionType,
    condition,
    kept,
)

THEN = datetime(2026, 1, 2, 3, 4, 5, 678_900, tzinfo=UTC)
LATER = THEN + timedelta(minutes=1)


def available(status: ConditionStatus, message: str, now: datetime) -> Condition:
    return condition(ConditionType.AVAILABLE, status, AvailableReason.REPLICAS_READY, message, generation=1, now=now)


def test_the_same_status_keeps_its_time_and_takes_the_new_words() -> None:
    before = available(ConditionStatus.TRUE, "1 of 2 replicas serve", THEN)
    (after,) = kept([before], [available(ConditionStatus.TRUE, "2 of 2 replicas serve", LATER)])
    assert after.last_transition_time == before.last_transition_time
    assert after.message == "2 of 2 replicas serve"


def test_another_status_takes_the_new_time() -> None:
    before = available(ConditionStatus.TRUE, "", THEN)
    (after,) = kept([before], [available(ConditionStatus.FALSE, "", LATER)])
    assert after.last_transition_time == LATER.replace(microsecond=0)


def test_a_condition_of_someone_else_stays() -> None:
    foreign = available(ConditionStatus.TRUE, "", THEN).model_copy(update={"type": "example.com/Billed"})
    assert kept([foreign], [available(ConditionStatus.TRUE, "", LATER)])[1] == foreign


def test_a_long_message_is_cut() -> None:
    assert len(available(ConditionStatus.TRUE, "x" * 5000, THEN).message) == MAX_MESSAGE
