"""After a rollout to another degree that was given up: the laws go by what the pods run, and what failed is not asked
for again."""

from typing import Any

from shift_operator.api import labels
from shift_operator.api.schedule import Degree
from shift_operator.api.shiftdeployment import ShiftDeployment
from shift_operator.api.signals import DeploymentKey, UnknownWhy, nothing_known, nothing_known_of_traffic
from shift_operator.control.decision import Decision, Knob
from shift_operator.control.inputs import Deployment, DeploymentDecisions, DeploymentState, Observed
from shift_operator.control.reasons import DegreeReason
from shift_operator.controller.decisions import Decisions
from shift_operator.controller.subjects import Subject, as_decided_on
from shift_operator.planning.degree import started_with
from shift_operator.planning.policy import Guided
from shift_operator.planning.rollback import GivenUp, attempt_of
from shift_operator.planning.workload import workload

CHAT = DeploymentKey("prod", "chat")
SERVED, FAILED, THIRD = (Degree(sequence=sequence, tensor=4 // sequence) for sequence in (4, 2, 1))
LIVE = frozenset({SERVED})
NOTHING = Observed(
    nothing_known(UnknownWhy.ABSENT, "no series"), nothing_known_of_traffic(UnknownWhy.ABSENT, "no series")
)


def a_deployment(degree: Degree = SERVED) -> ShiftDeployment:
    return ShiftDeployment.from_body(
        {
            "metadata": {"namespace": "prod", "name": "chat", "uid": "u", "generation": 1},
            "spec": {
                "model": {"uri": "file:///models/tiny"},
                "engine": {"image": "engine:1"},
                "parallelism": {
                    "gpusPerReplica": 4,
                    "degree": degree.to_body(),
                    "degreeCandidates": [one.to_body() for one in (SERVED, FAILED, THIRD)],
                },
                "shift": {"mode": "Auto"},
            },
        }
    )


def child_that_went_back(deployment: ShiftDeployment) -> dict[str, Any]:
    """Its pods are those of the degree that served; `FAILED` was given up."""
    body = dict(workload(started_with(deployment, SERVED), 2).body)
    given_up = GivenUp(attempt_of(started_with(deployment, FAILED)), "good", "went back")
    annotations = {**body["metadata"].get("annotations", {}), labels.ROLLED_BACK: given_up.to_annotation()}
    return {**body, "metadata": {**body["metadata"], "annotations": annotations}}


def moved(before: Degree, after: Degree) -> Decision[Any, Any]:
    reason = DegreeReason.LESS_STEP_TIME if after != before else DegreeReason.BEST_ALREADY
    return Decision(Knob.DEGREE, before.sequence, after.sequence, after.sequence, reason)


class Scene:
    """A deployment whose degree was decided to be `FAILED`, whose rollout then went back."""

    def __init__(self, spec: Degree = SERVED) -> None:
        self.deployment = a_deployment(spec)
        self.decisions = Decisions()
        self.decisions.of(CHAT, self.deployment)
        self.decisions.learn(CHAT, LIVE)
        self.take(moved(SERVED, FAILED), now=1.0)
        self.child = child_that_went_back(self.deployment)

    def take(self, decision: Decision[Any, Any], now: float) -> None:
        made = DeploymentDecisions(frozenset({Knob.DEGREE}), degree=decision)
        self.decisions.take(CHAT, self.deployment, made, DeploymentState(), NOTHING, Guided(None), now)

    @property
    def asked(self) -> Degree | None:
        return self.decisions.of(CHAT, self.deployment).degree

    def decided_on(self) -> Deployment:
        subject = Subject(CHAT, self.deployment, Guided(None), child=self.child)
        return as_decided_on(subject, self.decisions.of(CHAT, self.deployment), now=100.0)


def test_the_laws_go_by_the_degree_that_the_pods_run() -> None:
    seen = Scene().decided_on()
    assert seen.degree == SERVED
    assert seen.threshold_bounds is not None
    assert seen.threshold_bounds.degree == SERVED, "no engine has a curve of the other one"


def test_what_failed_is_neither_chosen_nor_fallen_back_to() -> None:
    seen = Scene(spec=FAILED).decided_on()
    assert seen.degree_bounds is not None
    assert seen.degree_bounds.candidates == (SERVED, THIRD)
    assert seen.spec is not None
    assert seen.spec.degree == SERVED


def test_holding_the_degree_that_serves_does_not_forget_what_failed() -> None:
    """Were the other one asked for no longer, its attempt would count no more, and be made again."""
    scene = Scene()
    scene.take(moved(SERVED, SERVED), now=2.0)
    assert scene.asked == FAILED
    assert scene.decided_on().degree == SERVED


def test_a_later_decision_speaks_of_where_it_comes_from() -> None:
    scene = Scene()
    scene.take(moved(scene.decided_on().degree, THIRD), now=2.0)
    record = scene.decisions.of(CHAT, scene.deployment).records[-1]
    assert (record.from_, record.to) == (str(SERVED), str(THIRD))
    assert scene.asked == THIRD
    assert scene.decided_on().degree == THIRD, "that is another attempt"


def test_that_the_degree_is_held_where_it_went_back_to_is_told() -> None:
    """Although it was held for the same reason while the rollout ran, at what was asked for."""
    scene = Scene()
    scene.take(moved(FAILED, FAILED), now=2.0)
    for look in range(3, 400):
        scene.take(moved(SERVED, SERVED), now=float(look))
    record = scene.decisions.of(CHAT, scene.deployment).records[-1]
    assert (record.from_, record.to, record.outcome) == (str(SERVED), str(SERVED), "Held")


def test_without_such_a_rollout_nothing_is_left_out() -> None:
    scene = Scene()
    scene.child = dict(workload(started_with(scene.deployment, FAILED), 2).body)
    seen = scene.decided_on()
    assert seen.degree == FAILED
    assert seen.degree_bounds is not None
    assert seen.degree_bounds.candidates == (SERVED, FAILED, THIRD)
