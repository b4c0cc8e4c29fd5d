"""Who sets the number of replicas, and within which bounds."""

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from shift_operator.api.base import ApiType, ObjectName, Rule, with_rules

MAX_REPLICAS = 1000


class ScalingMode(StrEnum):
    FIXED = "Fixed"  # spec.replicas is the number of replicas, and people write it
    EXTERNAL = "External"  # spec.replicas is the number of replicas, and an autoscaler writes it
    MANAGED = "Managed"  # the operator decides the number, and leaves spec.replicas as it is


class Idle(ApiType):
    """Fewer replicas than minReplicas while nobody asks."""

    replicas: Annotated[int, Field(ge=0, le=MAX_REPLICAS)] = 0
    """Replicas that stay while nobody asks. Unit: replicas. Default: {default}. Takes effect live. Example: 0 frees all
    GPUs, and the first request after that finds nobody until a replica has started. Below minReplicas."""

    after_seconds: Annotated[int, Field(ge=60, le=604_800)] = 900
    """How long no request may have come in before that. Unit: seconds. Default: {default}. Takes effect live. Example:
    3600 keeps a team's model over the lunch break."""


class Scaling(ApiType):
    """Who sets the number of replicas."""

    model_config = ConfigDict(
        json_schema_extra=with_rules(
            Rule(
                rule="self.mode == 'Managed' || !(has(self.minReplicas) || has(self.maxReplicas) || has(self.idle)"
                " || has(self.policyRef))",
                message_expression=(
                    "'scaling: minReplicas, maxReplicas, idle and policyRef are for mode Managed, mode is ' + self.mode"
                    " + '; write mode: Managed, or remove them and set bounds where spec.replicas is written'"
                ),
                field=".mode",
            ),
            Rule(
                rule="self.mode != 'Managed' || has(self.maxReplicas)",
                message="scaling: mode Managed needs maxReplicas, what the deployment may cost; write for example "
                "maxReplicas: 4",
            ),
            Rule(
                rule="!has(self.maxReplicas) || (has(self.minReplicas) ? self.minReplicas : 1) <= self.maxReplicas",
                message_expression=(
                    "'scaling: minReplicas %d is above maxReplicas %d; swap them or raise maxReplicas'"
                    ".format([has(self.minReplicas) ? self.minReplicas : 1, self.maxReplicas])"
                ),
                field=".minReplicas",
            ),
            Rule(
                rule="!has(self.idle) || self.idle.replicas < (has(self.minReplicas) ? self.minReplicas : 1)",
                message_expression=(
                    "'scaling.idle: replicas %d is not below minReplicas %d, idling would free nothing; lower it, or "
                    "remove idle'.format([self.idle.replicas, has(self.minReplicas) ? self.minReplicas : 1])"
                ),
                field=".idle.replicas",
            ),
        )
    )

    mode: ScalingMode = ScalingMode.FIXED
    """Who sets the number of replicas. Default: {default}. Takes effect live. Fixed: it is spec.replicas. External: it
    is spec.replicas too, and says that a HorizontalPodAutoscaler or KEDA writes it through the scale subresource, so
    leave replicas out of what you apply. Managed: the operator sets it by slo and the engines' metrics within
    minReplicas and maxReplicas, and never writes spec.replicas, so that GitOps sees no difference. Example: with
    Managed, `kubectl scale` moves only the number to start with."""

    min_replicas: Annotated[int | None, Field(ge=1, le=MAX_REPLICAS)] = None
    """The fewest replicas in mode Managed, but for idle. Unit: replicas. Default: 1. Takes effect live. Example: 2 with
    a pod per node serves on while one node is drained. At most maxReplicas."""

    max_replicas: Annotated[int | None, Field(ge=1, le=MAX_REPLICAS)] = None
    """The most replicas in mode Managed, which needs it. Unit: replicas. Takes effect live. Example: 6 with
    gpusPerReplica 8 never asks for more than 48 GPUs, but for maxSurge during a rollout. At least minReplicas."""

    idle: Idle | None = None
    """Fewer replicas while nobody asks, in mode Managed. Default: never fewer than minReplicas. Takes effect live."""

    policy_ref: ObjectName | None = None
    """The ClusterShiftPolicy that this deployment relies on, in mode Managed. Default: whichever applies to it. Takes
    effect with the next decision. It chooses nothing, since a deployment must not leave its budget by naming another:
    where a different policy applies, or none, the number of replicas stays as it is. Example: prod-gpus."""

    @property
    def highest(self) -> int:
        """The most replicas that mode Managed may run. Unit: replicas."""
        return self.max_replicas if self.max_replicas is not None else MAX_REPLICAS

    @property
    def lowest(self) -> int:
        """The fewest replicas that mode Managed may run while somebody asks. Unit: replicas."""
        return self.min_replicas if self.min_replicas is not None else 1

    def within(self, replicas: int) -> int:
        """The number nearest to `replicas` that mode Managed may run, idling included. Unit: replicas."""
        lowest = self.lowest if self.idle is None else min(self.idle.replicas, self.lowest)
        return max(lowest, min(replicas, self.highest))
