"""How replicas are replaced and how they end."""

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from shift_operator.api.base import ApiType, Rule, with_rules


class ScalingMode(StrEnum):
    FIXED = "Fixed"  # spec.replicas is the number of replicas


class Scaling(ApiType):
    """Who sets the number of replicas."""

    mode: ScalingMode = ScalingMode.FIXED
    """Who sets the number of replicas. Default: {default}. Takes effect live. Fixed: it is spec.replicas, which
    `kubectl scale` and a HorizontalPodAutoscaler may write."""


class Rollout(ApiType):
    """How replicas are replaced when their pods must change."""

    model_config = ConfigDict(
        json_schema_extra=with_rules(
            Rule(
                rule="self.maxSurge + self.maxUnavailable > 0",
                message="rollout: maxSurge and maxUnavailable cannot both be 0, no replica could ever be replaced; "
                "write maxUnavailable: 1 where no GPU is spare, else maxSurge: 1",
                field=".maxUnavailable",
            )
        )
    )

    max_surge: Annotated[int, Field(ge=0, le=100)] = 1
    """Replicas that may run beyond spec.replicas during a rollout. Unit: replicas. Default: {default}. Takes
    effect with the next rollout. Example: 1 needs gpusPerReplica spare GPUs; where there are none, the rollout waits
    for them and progressDeadlineSeconds reports it. Not 0 together with maxUnavailable."""

    max_unavailable: Annotated[int, Field(ge=0, le=100)] = 0
    """Replicas that may be missing during a rollout. Unit: replicas. Default: {default}, so that no capacity is lost.
    Takes effect with the next rollout. Example: 1 with maxSurge 0 replaces the replicas in place, without a spare GPU.
    Not 0 together with maxSurge."""

    progress_deadline_seconds: Annotated[int, Field(ge=60, le=86_400)] = 1800
    """How long a rollout may go without a replica becoming ready before Progressing turns False. Unit: seconds.
    Default: {default}. Takes effect live. It must leave time to load the weights. Example: 600 reports a stuck rollout
    after ten minutes, but also one whose model takes eleven to download. Nothing is rolled back."""


class Drain(ApiType):
    """How a replica ends."""

    timeout_seconds: Annotated[int, Field(ge=1, le=3600)] = 120
    """How long a replica that must end may work on the requests that it has. Unit: seconds. Default: {default}. Takes
    effect with a rollout. The pod's preStop, vLLM's --shutdown-timeout and terminationGracePeriodSeconds are derived
    from it. Example: with 30, a rollout is quick, and an answer that streams for a minute is cut."""
