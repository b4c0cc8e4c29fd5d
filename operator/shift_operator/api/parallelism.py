"""The envelope of a replica: its GPUs and the degree of its large steps. What changes here restarts pods."""

from typing import Annotated

from pydantic import ConfigDict, Field

from shift_operator.api.base import ApiType, Rule, keyed_by, with_rules
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
            ),
            Rule(
                rule="!has(self.degreeCandidates) || self.degreeCandidates.size() == 0"
                " || self.degreeCandidates.exists(d, d.sequence == self.degree.sequence"
                " && d.tensor == self.degree.tensor)",
                message_expression=(
                    "'parallelism.degreeCandidates lacks parallelism.degree, sequence %d x tensor %d; add it, since "
                    "engines start with it'.format([self.degree.sequence, self.degree.tensor])"
                ),
                field=".degreeCandidates",
            ),
            Rule(
                rule="!has(self.degreeCandidates) || self.degreeCandidates.all(d, d.sequence > 1"
                " && d.sequence * d.tensor == self.gpusPerReplica)",
                message_expression=(
                    "'parallelism.degreeCandidates: each needs a sequence above 1 and sequence x tensor %d; small "
                    "steps run with tensor parallelism over all GPUs anyway'.format([self.gpusPerReplica])"
                ),
                field=".degreeCandidates",
            ),
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
    """GPUs of one replica. Unit: GPUs. Set at creation, immutable. Small steps run with tensor parallelism over all of
    them. Where no node that it may run on has so many, a replica goes over the fewest nodes that hold it, as a group of
    pods of a LeaderWorkerSet, whose kind the cluster must have; they must divide evenly over these nodes. Example: 8
    with replicas 2 asks the cluster for 16 GPUs; 16 on nodes of 8 takes two of them per replica. The model's attention
    heads must divide by it."""

    degree: Degree
    """How steps above the threshold split over the GPUs. Takes effect with a rollout; live between degreeCandidates
    that the engines hold. Example: sequence 8, tensor 1 on 8 GPUs. sequence x tensor must be gpusPerReplica. With
    degreeCandidates, and a policy that enforces degrees, it is where engines start and what a fallback goes to."""

    degree_candidates: Annotated[
        tuple[Degree, ...], Field(max_length=7, json_schema_extra=keyed_by("sequence", "tensor"))
    ] = ()
    """The degrees among which the operator may choose for large steps. Default: none, so that degree stays. Takes
    effect with a rollout: engines load each of them at their start, where GPU memory allows, and then change live. Each
    takes about one more copy of the weights, divided by its tensor. Example: sequence 8 x tensor 1 and sequence 4 x
    tensor 2, for prompts that are long by day and short by night. degree must be among them, each sequence above 1."""
