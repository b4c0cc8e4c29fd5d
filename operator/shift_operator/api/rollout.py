"""How replicas are replaced and how they end."""

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from shift_operator.api.base import ApiType, Rule, with_rules


class RolloutStrategy(StrEnum):
    AUTO = "Auto"  # Surge where the GPUs for it are free, else InPlace
    SURGE = "Surge"  # new replicas start beside the old ones
    IN_PLACE = "InPlace"  # old replicas end first, a few at a time, and new ones take their GPUs
    RECREATE = "Recreate"  # all old replicas end before any new one starts


class Rollout(ApiType):
    """How replicas are replaced when their pods must change."""

    model_config = ConfigDict(
        json_schema_extra=with_rules(
            Rule(
                rule="self.strategy != 'Auto' || self.maxSurge > 0 || !has(self.maxUnavailable)"
                " || self.maxUnavailable > 0",
                message="rollout: maxSurge and maxUnavailable cannot both be 0, no replica could ever be replaced; "
                "write maxUnavailable: 1 where no GPU is spare, else maxSurge: 1",
                field=".maxUnavailable",
            ),
            Rule(
                rule="self.strategy != 'Surge' || self.maxSurge > 0",
                message="rollout: strategy Surge starts new replicas beside the old ones, so maxSurge cannot be 0; "
                "write maxSurge: 1, or strategy: InPlace",
                field=".maxSurge",
            ),
            Rule(
                rule="self.strategy != 'InPlace' || !has(self.maxUnavailable) || self.maxUnavailable > 0",
                message="rollout: strategy InPlace ends a replica before its successor starts, so maxUnavailable "
                "cannot be 0; write maxUnavailable: 1, or strategy: Surge",
                field=".maxUnavailable",
            ),
        )
    )

    strategy: RolloutStrategy = RolloutStrategy.AUTO
    """Which replicas end and start first. Default: {default}. Takes effect with the next rollout. Surge: new replicas
    start beside the old ones and need gpusPerReplica spare GPUs each. InPlace: old replicas end first, maxUnavailable
    at a time. Auto: Surge where a rollout finds the GPUs free on nodes that replicas may run on, and InPlace where
    it does not, or where a new replica has waited for them for capacityDeadlineSeconds; with maxUnavailable 0 always
    Surge. Recreate: all old replicas end before a new one starts. Example: Recreate for a model whose versions must
    not answer side by side; nothing serves meanwhile."""

    max_surge: Annotated[int, Field(ge=0, le=100)] = 1
    """Replicas that may run beyond spec.replicas during a rollout. Unit: replicas. Default: {default}. Takes
    effect with the next rollout. Example: 1 needs gpusPerReplica spare GPUs. Not 0 with strategy Surge, nor together
    with maxUnavailable 0."""

    max_unavailable: Annotated[int | None, Field(ge=0, le=100)] = None
    """Replicas that may be missing during a rollout. Unit: replicas. Default: 1 while replicas are replaced in place,
    else 0. Takes effect with the next rollout. Example: 0 with strategy Auto waits for spare GPUs rather than lose
    capacity. Not 0 with strategy InPlace, nor together with maxSurge 0."""

    progress_deadline_seconds: Annotated[int, Field(ge=60, le=86_400)] = 1800
    """How long a rollout may go without a replica becoming ready before Progressing turns False. Unit: seconds.
    Default: {default}. Takes effect live. It must leave time to load the weights. Example: 600 reports a stuck rollout
    after ten minutes, but also one whose model takes eleven to download."""

    auto_rollback: bool = True
    """Whether a rollout that exceeds progressDeadlineSeconds goes back to the pods of the last revision of which every
    replica served. Default: {default}. Takes effect live. The spec stays as it is, Progressing turns False and says
    from which revision to which and why, and an edit of what makes up the pods, or of rollout, tries anew. Example:
    false leaves the failing pods in place to look at."""

    capacity_deadline_seconds: Annotated[int, Field(ge=1, le=86_400)] = 60
    """How long a pod may wait for a node before CapacityAvailable turns False. Unit: seconds. Default: {default}. Takes
    effect live. Unless a rollout runs, replicas without a node are then given up, and asked for again after as long,
    twice as long and so on, 10 minutes at most. Example: 600 keeps quiet while a cluster autoscaler needs five minutes
    for a GPU node."""


class Drain(ApiType):
    """How a replica ends."""

    timeout_seconds: Annotated[int, Field(ge=1, le=3600)] = 120
    """How long a replica that must end may work on the requests that it has. Unit: seconds. Default: {default}. Takes
    effect with a rollout. The pod's preStop, vLLM's --shutdown-timeout and terminationGracePeriodSeconds are derived
    from it. Example: with 30, a rollout is quick, and an answer that streams for a minute is cut."""
