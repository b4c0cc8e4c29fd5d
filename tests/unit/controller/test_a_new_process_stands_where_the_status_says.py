"""The operator's memory of its decisions, and what of it lies in the object's status."""

from typing import Any

from shift_operator.api.shiftdeployment import ShiftDeployment
from shift_operator.api.signals import DeploymentKey, UnknownWhy, nothing_known
from shift_operator.api.status import KEPT_DECISIONS
from shift_operator.control.decision import Decision, Fact, Knob
from shift_operator.control.reasons import ThresholdReason
from shift_operator.control.threshold import ThresholdDecision
from shift_operator.controller.decisions import Decisions

CHAT = DeploymentKey("prod", "chat")
NOTHING = nothing_known(UnknownWhy.ABSENT, "")


def a_deployment(status: dict[str, Any] | None = None, **shift: Any) -> ShiftDeployment:
    return ShiftDeployment.from_body(
        {
            "metadata": {"namespace": "prod", "name": "chat"},
            "spec": {
                "model": {"uri": "file:///models/tiny"},
                "engine": {"image": "engine:1"},
                "parallelism": {"gpusPerReplica": 2, "degree": {"sequence": 2, "tensor": 1}},
                "shift": {"mode": "Auto", "thresholdTokens": 512} | shift,
            },
            "status": status,
        }
    )


def a_decision(before: int, after: int, reason: ThresholdReason) -> ThresholdDecision:
    evidence = (Fact("gain", "7.0 %"), Fact("steps observed", "1000"))
    return Decision(Knob.THRESHOLD, before, after, after, reason, evidence=evidence)


MOVE = a_decision(512, 768, ThresholdReason.LESS_STEP_TIME)
HOLD = a_decision(768, 768, ThresholdReason.BEST_ALREADY)
RECORD = {
    "time": "2026-11-24T11:00:00Z",
    "kind": "Threshold",
    "from": "512",
    "to": "768",
    "reason": "LessStepTime",
    "outcome": "Applied",
    "message": "gain 7.0 %",
}


def test_a_deployment_that_is_new_starts_at_its_spec() -> None:
    assert Decisions().of(CHAT, a_deployment()).threshold_tokens == 512


def test_a_deployment_that_was_decided_on_before_stands_where_its_status_says() -> None:
    status = {"shift": {"desired": {"thresholdTokens": 768, "generation": 4}}, "decisions": [RECORD]}
    standing = Decisions().of(CHAT, a_deployment(status))
    assert standing.threshold_tokens == 768
    assert [record.reason for record in standing.records] == ["LessStepTime"]
    assert standing.decision is None


def test_a_move_is_news_and_so_is_another_reason_to_hold_but_not_the_same_again() -> None:
    decisions = Decisions()
    assert decisions.take(CHAT, a_deployment(), MOVE, NOTHING, now=1.0)
    assert decisions.take(CHAT, a_deployment(), HOLD, NOTHING, now=2.0)
    assert not decisions.take(CHAT, a_deployment(), HOLD, NOTHING, now=3.0)
    records = decisions.of(CHAT, a_deployment()).records
    assert [(record.from_, record.to, record.outcome) for record in records] == [
        ("512", "768", "Pending"),
        ("768", "768", "Held"),
    ]
    assert records[0].message == "gain 7.0 %; steps observed 1000"


def test_a_signal_that_becomes_unknown_is_news_even_if_the_decision_is_the_same() -> None:
    decisions = Decisions()
    decisions.take(CHAT, a_deployment(), HOLD, NOTHING, now=1.0)
    stale = nothing_known(UnknownWhy.STALE, "61 s old")
    assert decisions.take(CHAT, a_deployment(), HOLD, stale, now=2.0)
    assert not decisions.take(CHAT, a_deployment(), HOLD, nothing_known(UnknownWhy.STALE, "76 s old"), now=3.0)


def test_only_the_last_decisions_are_kept() -> None:
    decisions = Decisions()
    for n in range(15):
        decisions.take(
            CHAT, a_deployment(), a_decision(n, n + 1, ThresholdReason.LESS_STEP_TIME), NOTHING, now=float(n)
        )
    records = decisions.of(CHAT, a_deployment()).records
    assert len(records) == KEPT_DECISIONS
    assert records[-1].to == "15"


def test_a_deployment_that_is_gone_is_forgotten() -> None:
    decisions = Decisions()
    decisions.take(CHAT, a_deployment(), MOVE, NOTHING, now=1.0)
    decisions.forget(CHAT)
    assert decisions.of(CHAT, a_deployment()).threshold_tokens == 512
