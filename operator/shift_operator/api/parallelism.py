"""The envelope of a replica: its GPUs and the degree of its large steps. What changes here restarts pods."""

from typing import Annotated

from pydantic import ConfigDict, Field

from shift_operator.api.base import ApiType, Rule, with_rules
from shift_operator.api.schedule import MAX_GPUS, Degree


class Parallelism(ApiType):
    """How many GPUs a replica has and how its large steps use them."""

    model_config = ConfigDict(
        json_schema_extra=with_rules(
            Rule(
                rule="self.degree.sequence * self.degree.tensor == self.gpusPerReplica",
                message_expression=(
                    "'parallelism.degree: sequence %d x tensor %d is %d, gpusPerReplica is %d; choose a pair whose "
                    "product is %d'.format([self.degree.sequence, self.degree.tensor, self.degree.sequence * "
                    "self.degree.tensor, self.gpusPerReplica, self.gpusPerReplica])"
                ),
                field=".degree",
            )
        )
    )

    gpus_per_replica: Annotated[
        int,
        Field(
            ge=1,
            le=MAX_GPUS,
            json_schema_extra=with_rules(
                Rule(
                    rule="self == oldSelf",
                    message="parallelism.gpusPerReplica cannot be changed; create a ShiftDeployment with another name "
                    "and delete this one when the new one is Available",
                )
            ),
        ),
    ]
    """GPUs of one replica, all on one node. Unit: GPUs. Set at creation, immutable. Small steps run with tensor
    parallelism over all of them. Example: 8 with replicas 2 asks the cluster for 16 GPUs. The model's attention
    heads must divide by it."""

    degree: Degree
    """How steps above the threshold split over the GPUs. Takes effect with a rollout. Example: sequence 8, tensor 1
    on 8 GPUs. sequence x tensor must be gpusPerReplica."""
