"""Going back: a rollout that makes no progress ends with the pods of the last revision of which every replica served.

What was given up stands in an annotation of the child Deployment, written together with the old pod template: after a
crash in between there is either both or none. It counts for one attempt; a spec that makes other pods is another one.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from shift_operator.api import labels
from shift_operator.api.conditions import ConditionStatus, ProgressingReason
from shift_operator.api.schedule import Degree
from shift_operator.api.shiftdeployment import ShiftDeployment
from shift_operator.planning.conditions import Counts, Verdict, degraded
from shift_operator.planning.degree import degree_of
from shift_operator.planning.difference import differences
from shift_operator.planning.manifest import Body, Manifest
from shift_operator.planning.pod import pod_template
from shift_operator.planning.pods import engine_container, is_ending, waiting_for_node


@dataclass(frozen=True)
class GivenUp:
    """An attempt that was given up. `revision`: the pod-template-hash of what runs instead."""

    attempt: str
    revision: str
    message: str

    def to_annotation(self) -> str:
        return json.dumps({"attempt": self.attempt, "revision": self.revision, "message": self.message})

    @classmethod
    def of(cls, workload: Body | None) -> "GivenUp | None":
        """What the child Deployment says was given up; None where nothing was, or someone wrote something else."""
        try:
            content = json.loads(((workload or {})["metadata"].get("annotations") or {})[labels.ROLLED_BACK])
            return cls(str(content["attempt"]), str(content["revision"]), str(content["message"]))
        except (KeyError, TypeError, ValueError):
            return None


@dataclass(frozen=True)
class WentBack:
    """The pods to run instead of the spec's, and what was given up for them."""

    given_up: GivenUp
    template: Body


def attempt_of(deployment: ShiftDeployment) -> str:
    """Names what a rollout tries: its pods and how it replaces them. What takes effect live, such as replicas and
    thresholds, is not in it: a HorizontalPodAutoscaler must not bring failing pods back."""
    rollout = deployment.spec.rollout
    # Field by field, so that a field of a later version makes no new attempt of an old spec.
    how = [rollout.strategy, rollout.max_surge, rollout.max_unavailable, rollout.progress_deadline_seconds]
    text = json.dumps([pod_template(deployment), how], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def standing(deployment: ShiftDeployment, workload: Body | None) -> GivenUp | None:
    """What was given up and still counts: the spec asks for the same attempt, and autoRollback is on."""
    given_up = GivenUp.of(workload)
    if given_up is None or not deployment.spec.rollout.auto_rollback:
        return None
    return given_up if given_up.attempt == attempt_of(deployment) else None


def must_give_up(deployment: ShiftDeployment, wanted: Manifest, live: Body) -> bool:
    """Whether the rollout of `wanted`, which the live Deployment has taken up, exceeded its deadline."""
    counts = Counts.of(live)
    if not (deployment.spec.rollout.auto_rollback and counts.current and counts.stuck):
        return False
    return not changes_pods(wanted, live)


def changes_pods(wanted: Manifest, live: Body) -> bool:
    """Whether applying `wanted` begins a rollout."""
    templates = ("spec.template", "spec.leaderWorkerTemplate")
    return any(d.path == "object" or d.path.startswith(templates) for d in differences(wanted, live))


def went_back(deployment: ShiftDeployment, live: Body, replica_set: Body, pods: Sequence[Body]) -> WentBack | None:
    """Gives the live Deployment's rollout up for a ReplicaSet's revision. None where that is what it rolls out."""
    template = template_of(replica_set)
    if template == _stripped(live["spec"]["template"]):
        return None
    metadata = replica_set["metadata"]
    deadline = deployment.spec.rollout.progress_deadline_seconds
    message = (
        f"went back from revision {_revision(live, live['spec']['template'])} to revision "
        f"{_revision(replica_set, template)}: no replica became ready for {deadline} s; {_why(live, pods)}"
    )
    revision = metadata["labels"][labels.POD_TEMPLATE_HASH]
    return WentBack(GivenUp(attempt_of(deployment), revision, message), template)


def template_of(replica_set: Body) -> Body:
    """The pod template as the Deployment had it."""
    return _stripped(replica_set["spec"]["template"])


def rolled_back(deployment: ShiftDeployment, workload: Body | None) -> Verdict | None:
    """Progressing while the pods are those of an earlier revision; None while they are the spec's."""
    given_up = standing(deployment, workload)
    if given_up is None:
        return None
    return Verdict(ConditionStatus.FALSE, ProgressingReason.ROLLED_BACK, given_up.message)


def degree_gone_back_to(deployment: ShiftDeployment, workload: Body | None) -> Degree | None:
    """The degree of large steps in the pods that run instead of the spec's; None while the spec's do, or where the
    pods do not say."""
    if workload is None or standing(deployment, workload) is None:
        return None
    return degree_of(workload["spec"]["template"])


def running_degree(deployment: ShiftDeployment, workload: Body | None) -> Degree:
    """The degree of large steps in the pods that the child Deployment makes: the spec's, unless it went back."""
    return degree_gone_back_to(deployment, workload) or deployment.spec.parallelism.degree


def good_revision(wanted: int, counts: Counts, pods: Sequence[Body]) -> str | None:
    """The revision of which every replica serves now; None while that is no single one."""
    if wanted == 0 or not counts.settled(wanted) or counts.available != wanted:
        return None
    alive = [pod for pod in pods if not is_ending(pod) and (pod.get("status") or {}).get("phase") != "Failed"]
    hashes = {(pod["metadata"].get("labels") or {}).get(labels.POD_TEMPLATE_HASH) for pod in alive}
    return hashes.pop() if len(hashes) == 1 else None


def _why(live: Body, pods: Sequence[Body]) -> str:
    failing = degraded((), pods, missing=True)
    if failing.status is ConditionStatus.TRUE:
        return failing.message
    counts = Counts.of(live)
    return waiting_for_node(pods) or f"{counts.updated} replicas had the newest template, {counts.available} served"


def _revision(owner: Body, template: Body) -> str:
    """For people: the number that `kubectl rollout history` shows, and the image."""
    number = (owner["metadata"].get("annotations") or {}).get(labels.REVISION, "?")
    return f"{number} ({engine_container(template)['image']})"


def _stripped(template: Body) -> dict[str, Any]:
    metadata = {key: value for key, value in (template.get("metadata") or {}).items() if value is not None}
    own = {key: value for key, value in (metadata.get("labels") or {}).items() if key != labels.POD_TEMPLATE_HASH}
    return {**template, "metadata": {**metadata, "labels": own}}
