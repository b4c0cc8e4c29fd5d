"""Which policy a deployment is under, as its conditions tell it."""

from dataclasses import dataclass

from shift_operator.api.conditions import ConditionStatus, PolicyReason
from shift_operator.api.policy import PolicyMode
from shift_operator.api.shiftdeployment import ShiftDeployment
from shift_operator.planning.conditions import Verdict


@dataclass(frozen=True)
class Guided:
    """The policy that applies, None where no ClusterShiftPolicy does, and what it lets be done with each knob.

    `hidden` says why the cluster's policies cannot be seen; None where they can.
    """

    policy: str | None
    threshold: PolicyMode = PolicyMode.ENFORCE
    degree: PolicyMode = PolicyMode.ENFORCE
    replicas: PolicyMode = PolicyMode.ENFORCE
    hidden: str | None = None

    def __str__(self) -> str:
        return f"threshold {self.threshold}, degree {self.degree}, replicas {self.replicas}"


def relies_on_another(deployment: ShiftDeployment, policy: str | None) -> bool:
    """Whether scaling.policyRef names another policy than the one that applies."""
    relied_on = deployment.spec.scaling.policy_ref
    return relied_on is not None and relied_on != policy


def policy_applied(deployment: ShiftDeployment, guided: Guided | None) -> Verdict:
    """True when it is known which policy applies, and it is the one that the deployment relies on."""
    if guided is None:
        return Verdict(ConditionStatus.UNKNOWN, PolicyReason.NOT_ASKED, "the decision loop has not looked yet")
    if guided.hidden is not None:
        message = f"{guided.hidden}; until they can be seen replicas and degree stay as they are"
        return Verdict(ConditionStatus.UNKNOWN, PolicyReason.POLICIES_HIDDEN, message)
    if relies_on_another(deployment, guided.policy):
        applies = f"policy {guided.policy} applies" if guided.policy else "no policy selects this deployment"
        message = (
            f"scaling.policyRef is {deployment.spec.scaling.policy_ref}, but {applies}; replicas stay as they are "
            "until that policy selects it, or policyRef is changed"
        )
        return Verdict(ConditionStatus.FALSE, PolicyReason.POLICY_REF_MISMATCH, message)
    if guided.policy is None:
        message = f"no ClusterShiftPolicy selects this deployment, the operator's flags apply: {guided}"
        return Verdict(ConditionStatus.TRUE, PolicyReason.NO_POLICY, message)
    return Verdict(ConditionStatus.TRUE, PolicyReason.POLICY_FOUND, f"policy {guided.policy} applies: {guided}")
