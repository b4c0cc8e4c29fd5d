"""The operator's memory of its decisions, and what of it lies in the object's status."""

from typing import Any

from shift_operator.api.shiftdeployment import ShiftDeployment
from shift_operator.api.signals import DeploymentKey, UnknownWhy, nothing_known, nothing_known_of_traffic
from shift_operator.api.status import KEPT_DECISIONS
from shift_operator.control.decision import Decision, Fact, Knob
from shift_operator.control.inputs import DeploymentDecisions, DeploymentState, Observed
from shift_operator.control.reasons import ThresholdReason
from shift_operator.control.threshold import ThresholdDecision
from shift_operator.controller.decisions import Decisions
from shift_operator.controller.news import REPEAT_SECONDS
from shift_operator.planning.policy import Guided

CHAT = DeploymentKey("prod", "chat")


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


def take(
    decisions: Decisions,
    threshold: ThresholdDecision,
    now: float,
    *,
    why: tuple[UnknownWhy, str] = (UnknownWhy.ABSENT, ""),
    enforced: bool = True,
    policy: str | None = None,
) -> bool:
    """Whether a decision on the threshold is news."""
    return decisions.take(
        CHAT,
        a_deployment(),
        DeploymentDecisions(frozenset(Knob) if enforced else frozenset(), threshold),
        DeploymentState(),
        Observed(nothing_known(*why), nothing_known_of_traffic(*why)),
        Guided(policy),
        now,
    )


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
    assert standing.made is None


def test_a_move_is_news_and_so_is_another_reason_to_hold_but_not_the_same_again() -> None:
    decisions = Decisions()
    assert take(decisions, MOVE, now=1.0)
    assert take(decisions, HOLD, now=2.0)
    assert not take(decisions, HOLD, now=3.0)
    records = decisions.of(CHAT, a_deployment()).records
    assert [(record.from_, record.to, record.outcome) for record in records] == [
        ("512", "768", "Pending"),
        ("768", "768", "Held"),
    ]
    assert records[0].message == "gain 7.0 %; steps observed 1000"


def test_a_signal_that_becomes_unknown_is_news_even_if_the_decision_is_the_same() -> None:
    decisions = Decisions()
    take(decisions, HOLD, now=1.0)
    assert take(decisions, HOLD, now=2.0, why=(UnknownWhy.STALE, "61 s old"))
    assert not take(decisions, HOLD, now=3.0, why=(UnknownWhy.STALE, "76 s old"))


def test_what_is_only_advised_moves_nothing_and_is_told_once() -> None:
    decisions = Decisions()
    assert take(decisions, MOVE, now=1.0, enforced=False)
    assert not take(decisions, MOVE, now=2.0, enforced=False)
    standing = decisions.of(CHAT, a_deployment())
    assert standing.threshold_tokens == 512
    assert [(record.to, record.outcome) for record in standing.records] == [("768", "Advised")]
    assert take(decisions, MOVE, now=3.0), "once the policy enforces, it is carried out"
    assert decisions.of(CHAT, a_deployment()).threshold_tokens == 768


def test_what_has_come_through_tells_its_seconds_once_and_a_later_decision_still_waits() -> None:
    decisions = Decisions()
    take(decisions, MOVE, now=1.0)
    shown = decisions.of(CHAT, a_deployment()).records
    later = a_decision(768, 900, ThresholdReason.LESS_STEP_TIME)
    take(decisions, later, now=3.5)
    through = tuple(record.model_copy(update={"outcome": "Applied"}) for record in shown)
    assert decisions.settle(CHAT, through, now=4.0) == {}, "the pods do not run the newer one"
    records = decisions.of(CHAT, a_deployment()).records
    assert [record.outcome for record in records] == ["Applied", "Pending"]

    through = tuple(record.model_copy(update={"outcome": "Applied"}) for record in records)
    assert decisions.settle(CHAT, through, now=6.0) == {"Threshold": 2.5}
    assert decisions.settle(CHAT, through, now=7.0) == {}


def test_what_was_rolled_back_has_not_come_through() -> None:
    decisions = Decisions()
    take(decisions, MOVE, now=1.0)
    records = decisions.of(CHAT, a_deployment()).records
    went_back = tuple(record.model_copy(update={"outcome": "RolledBack"}) for record in records)
    assert decisions.settle(CHAT, went_back, now=70.0) == {}
    assert [record.outcome for record in decisions.of(CHAT, a_deployment()).records] == ["RolledBack"]
    later = a_decision(768, 900, ThresholdReason.LESS_STEP_TIME)
    take(decisions, later, now=80.0)
    records = decisions.of(CHAT, a_deployment()).records
    through = (records[0], records[1].model_copy(update={"outcome": "Applied"}))
    assert decisions.settle(CHAT, through, now=82.0) == {"Threshold": 2.0}


def test_reasons_that_alternate_are_told_once_each_and_again_after_a_while() -> None:
    decisions = Decisions()
    holds = [a_decision(512, 512, reason) for reason in (ThresholdReason.BEST_ALREADY, ThresholdReason.GAIN_TOO_SMALL)]
    told = [15.0 * n for n in range(60) if take(decisions, holds[n % 2], now=15.0 * n)]
    assert told == [0.0, 15.0, 330.0, 645.0]


def test_signals_that_come_and_go_are_shown_as_they_were_told() -> None:
    decisions = Decisions()
    missing, stale = (UnknownWhy.ABSENT, ""), (UnknownWhy.STALE, "61 s old")
    told = [n for n in range(8) if take(decisions, HOLD, now=15.0 * n, why=stale if n % 2 else missing)]
    assert told == [0, 1]
    observed = decisions.of(CHAT, a_deployment()).observed
    assert observed is not None
    assert {signal.why for signal in observed.signals.unknown()} == {UnknownWhy.STALE}
    told = [n for n in range(8, 14) if take(decisions, HOLD, now=15.0 * n, why=missing)]
    assert told == [11], "what has stayed for some looks is shown"


def test_another_policy_is_news() -> None:
    decisions = Decisions()
    take(decisions, HOLD, now=1.0)
    assert take(decisions, HOLD, now=2.0, policy="batch")
    assert not take(decisions, HOLD, now=3.0, policy="batch")


def test_only_the_last_decisions_are_kept() -> None:
    decisions = Decisions()
    for n in range(15):
        take(decisions, a_decision(n, n + 1, ThresholdReason.LESS_STEP_TIME), now=float(n))
    records = decisions.of(CHAT, a_deployment()).records
    assert len(records) == KEPT_DECISIONS
    assert records[-1].to == "15"


def test_holds_do_not_push_out_what_moved() -> None:
    decisions = Decisions()
    take(decisions, MOVE, now=0.0)
    for n in range(2 * KEPT_DECISIONS):
        reason = ThresholdReason.TOO_FEW_STEPS if n % 2 else ThresholdReason.BEST_ALREADY
        assert take(decisions, a_decision(768, 768, reason), now=1.0 + n * (REPEAT_SECONDS + 1.0))
    records = decisions.of(CHAT, a_deployment()).records
    assert [(record.to, record.reason) for record in records] == [("768", "LessStepTime"), ("768", "TooFewSteps")]


def test_a_deployment_that_is_gone_is_forgotten() -> None:
    decisions = Decisions()
    take(decisions, MOVE, now=1.0)
    decisions.forget(CHAT)
    assert decisions.of(CHAT, a_deployment()).threshold_tokens == 512
