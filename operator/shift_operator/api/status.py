"""What the operator reports of a ShiftDeployment: what it wants, what the pods confirm, and on which grounds."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from shift_operator.api.base import ApiType, Time, keyed_by
from shift_operator.api.conditions import Condition
from shift_operator.api.memory import Memory
from shift_operator.api.schedule import Schedule

KEPT_DECISIONS = 10

Count = Annotated[int, Field(ge=0)]
Word = Annotated[str, Field(max_length=256)]
Sentence = Annotated[str, Field(max_length=2048)]


class DecisionOutcome(StrEnum):
    PENDING = "Pending"  # written, not yet confirmed by every rank
    APPLIED = "Applied"  # carried out: every rank runs the schedule, as many replicas serve
    HELD = "Held"  # nothing changed; the reason says why
    ADVISED = "Advised"  # the policy's mode is Advisory: this is what would have been done
    ROLLED_BACK = "RolledBack"  # the rollout that it took exceeded its deadline: the pods went back to what served


class DesiredShift(ApiType):
    """What the engines are asked to run."""

    threshold_tokens: Count | None = None
    """The wanted threshold. Unit: tokens per engine step. Absent where every step runs one way."""

    generation: Count
    """The wanted schedule's generation."""


class AppliedShift(ApiType):
    """What the engines confirm that they run."""

    threshold_tokens: Count | None = None
    """The threshold of the schedule at `generation`, as the engines report it. Unit: tokens per engine step. Absent
    while no pod has reported."""

    generation: Count
    """The lowest generation that any ready pod runs; 0 is an engine's start-up schedule."""

    pods: Count
    """Ready pods of which every rank confirms the wanted generation. Unit: pods."""

    ranks: Count
    """Ranks of these pods. Unit: ranks; a pod has one per GPU."""


class ShiftStatus(ApiType):
    """The threshold: wanted, and run."""

    desired: DesiredShift
    """What the engines are asked to run."""

    applied: AppliedShift | None = None
    """What they run. Absent while no pod is ready."""

    last_change_time: Time | None = None
    """When the wanted schedule last changed."""


class SignalStatus(ApiType):
    """A number that the last decision rests on. Without value it is unknown, which is not zero."""

    name: Word
    """What it is, with its unit, for example stepsObserved or podsReporting."""

    value: int | None = None
    """The value. Absent: unknown."""

    unknown: Sentence | None = None
    """Why it is unknown, naming the missing series."""

    age_seconds: Count | None = None
    """How old the oldest sample in it was when the status was written. Unit: seconds."""

    source: Word
    """The metric that it was read from."""


class DecisionRecord(ApiType):
    """A decision and what came of it."""

    time: Time
    """When it was made."""

    kind: Word
    """The knob that it is about: Threshold, Degree or Replicas."""

    from_: Annotated[Word, Field(alias="from")]
    """The knob's value before."""

    to: Word
    """Its value after; the same where it was held."""

    reason: Word
    """One word of a closed list; docs/reasons.md explains it."""

    limit: Word | None = None
    """What kept the knob from the value that its law wanted. One word of a closed list. Absent where nothing did."""

    outcome: Word
    """Pending, Applied, Held, Advised or RolledBack."""

    message: Sentence
    """The evidence in a sentence."""


class CapacityRelease(ApiType):
    """Replicas that found no node within capacityDeadlineSeconds and are not asked for until the next try."""

    replicas: Count
    """Replicas that are asked for meanwhile: those that had a node. Unit: replicas."""

    tries: Count
    """How often the rest was asked for in vain, in a row."""

    retry_time: Time
    """When the rest is asked for again; past while that try lasts."""

    attempt: Word
    """Names the pods that were asked for: an edit that changes them is tried at once."""

    message: Sentence
    """The scheduler's words about the pod that waited for longest."""


class ShiftDeploymentStatus(ApiType):
    """The state of a ShiftDeployment as the operator last saw it."""

    observed_generation: Count | None = None
    """The spec's generation that this status is about."""

    replicas: Count | None = None
    """Replicas that exist. Unit: pods that are not ending."""

    ready_replicas: Count | None = None
    """Replicas whose engine serves."""

    updated_replicas: Count | None = None
    """Replicas of the newest template."""

    available_replicas: Count | None = None
    """Replicas that a rollout counts as available."""

    desired_replicas: Count | None = None
    """Replicas that the operator runs in scaling.mode Managed: its last decision, before the first one those that it
    found. A suspended deployment comes back with them. Absent in other modes."""

    release: CapacityRelease | None = None
    """Replicas that are not asked for at the moment, since the cluster had no GPUs for them. Absent where it has."""

    selector: Annotated[str | None, Field(max_length=512)] = None
    """The label selector of the pods, for the scale subresource."""

    ready: Annotated[str | None, Field(max_length=32)] = None
    """Ready replicas of wanted ones, for people: 1/2."""

    degree: Annotated[str | None, Field(max_length=16)] = None
    """The degree of large steps, sequence x tensor, for people: 2x1. Of the pods that run, after a rollback too."""

    good_revision: Word | None = None
    """The last revision of which every replica served, by its pod-template-hash: where autoRollback goes back to."""

    shift: ShiftStatus | None = None
    """The threshold: wanted, and run."""

    schedule: Schedule | None = None
    """The wanted schedule: a ConfigMap that someone deleted comes back from it with the same generation."""

    signals: Annotated[tuple[SignalStatus, ...], Field(max_length=16, json_schema_extra=keyed_by("name"))] = ()
    """The numbers that the last decision rests on."""

    decisions: Annotated[
        tuple[DecisionRecord, ...],
        Field(max_length=KEPT_DECISIONS, json_schema_extra={"x-kubernetes-list-type": "atomic"}),
    ] = ()
    """The last decisions, the newest last: those that moved a knob, and of each knob the last hold since then."""

    memory: Memory | None = None
    """Since when something lasts that a decision waits for, so that a restart of the operator begins no wait anew."""

    conditions: Annotated[tuple[Condition, ...], Field(max_length=16, json_schema_extra=keyed_by("type"))] = ()
    """Available, Progressing, Degraded, MetricsAvailable, ConfigurationApplied, CapacityAvailable, PolicyApplied."""

    def condition(self, type_: str) -> Condition | None:
        """The condition of this type, if it is there."""
        return next((c for c in self.conditions if c.type == type_), None)
