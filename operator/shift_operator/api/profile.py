"""ShiftProfile: how long steps take on one kind of replica, as its engine measured it or as a user knows it."""

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from shift_operator.api.base import API_VERSION, ApiType, Rule, keyed_by, with_rules
from shift_operator.api.schedule import MAX_GPUS, MAX_TOKENS, Degree
from shift_operator.api.shiftdeployment import ObjectMeta

KIND = "ShiftProfile"

MAX_STEP_MICROSECONDS = 600_000_000
MAX_KV_TOKENS = 1_000_000_000


class ProfileSource(StrEnum):
    OPERATOR = "Operator"  # written by the operator from engines' calibration; what a person changes is written over
    USER = "User"  # written by a person or a pipeline; goes before the operator's, which leaves it alone


class ProfileKey(ApiType):
    """The replicas that a profile is about: all of these must be the same."""

    model_config = ConfigDict(
        json_schema_extra=with_rules(
            Rule(
                rule="self.degree.sequence * self.degree.tensor == self.gpusPerReplica",
                message_expression=(
                    "'key.degree: sequence %d x tensor %d is %d, gpusPerReplica is %d; choose a pair whose product is "
                    "%d'.format([self.degree.sequence, self.degree.tensor, self.degree.sequence * self.degree.tensor, "
                    "self.gpusPerReplica, self.gpusPerReplica])"
                ),
                field=".degree",
            )
        )
    )

    model: Annotated[str, Field(min_length=1, max_length=512)]
    """The deployments' model.uri. Example: hf://meta-llama/Llama-3.1-8B-Instruct."""

    revision: Annotated[str | None, Field(min_length=1, max_length=128)] = None
    """The deployments' model.revision. Absent where they have none."""

    gpu: Annotated[str, Field(min_length=1, max_length=63)]
    """The GPU's product name, as the node label nvidia.com/gpu.product has it. Example: NVIDIA-H100-80GB-HBM3."""

    gpus_per_replica: Annotated[int, Field(ge=1, le=MAX_GPUS)]
    """GPUs of one replica. Unit: GPUs."""

    degree: Degree
    """The degree of large steps. Small ones run with tensor parallelism over all GPUs. sequence x tensor must be
    gpusPerReplica."""

    engine_version: Annotated[str, Field(min_length=1, max_length=128)]
    """The shift engine's version, since another one may take other times. Example: 0.1.0."""


class ProfilePoint(ApiType):
    """A step of this many batched tokens takes this long."""

    tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS)]
    """The step's size. Unit: batched tokens."""

    microseconds: Annotated[int, Field(ge=1, le=MAX_STEP_MICROSECONDS)]
    """The step's time, median over its runs. Unit: microseconds."""


class ProfileCurve(ApiType):
    """The step-time curve of one degree."""

    sequence: Annotated[int, Field(ge=1, le=MAX_GPUS)]
    """The degree's sequence parallelism. Unit: GPUs."""

    tensor: Annotated[int, Field(ge=1, le=MAX_GPUS)]
    """The degree's tensor parallelism. Unit: GPUs."""

    points: Annotated[
        tuple[ProfilePoint, ...],
        Field(
            min_length=2,
            max_length=64,
            json_schema_extra=keyed_by("tokens")
            | with_rules(
                Rule(
                    rule="self.map(p, p.tokens).isSorted()",
                    message="curves: the points must be in ascending order of tokens; sort them",
                )
            ),
        ),
    ]
    """Measured sizes and times, ascending, joined by straight lines. Example: ten sizes from 1 to 8192, each about
    twice the one before, follow a curve within a few percent."""

    @property
    def degree(self) -> Degree:
        return Degree(sequence=self.sequence, tensor=self.tensor)


def _needs_curve(of: str, sequence: str, tensor: str) -> Rule:
    return Rule(
        rule=f"self.curves.exists(c, c.sequence == {sequence} && c.tensor == {tensor})",
        message_expression=(
            f"'curves: the curve of {of} is missing; add one with sequence %d and tensor %d'"
            f".format([{sequence}, {tensor}])"
        ),
        field=".curves",
    )


class OtherDegree(ApiType):
    """What a replica holds that is started with another degree of the same GPUs."""

    sequence: Annotated[int, Field(ge=1, le=MAX_GPUS)]
    """The degree's sequence parallelism. Unit: GPUs."""

    tensor: Annotated[int, Field(ge=1, le=MAX_GPUS)]
    """The degree's tensor parallelism. Unit: GPUs."""

    kv_tokens: Annotated[int, Field(ge=0, le=MAX_KV_TOKENS)]
    """What the KV cache then holds, 0 where the weights leave none. Unit: tokens. Example: 410000."""

    @property
    def degree(self) -> Degree:
        return Degree(sequence=self.sequence, tensor=self.tensor)


class ShiftProfileSpec(ApiType):
    """Of which replicas, how long their steps take, and how much they hold."""

    model_config = ConfigDict(
        json_schema_extra=with_rules(
            _needs_curve("small steps", "1", "self.key.gpusPerReplica"),
            _needs_curve("large steps", "self.key.degree.sequence", "self.key.degree.tensor"),
            Rule(
                rule="self.curves.all(c, c.sequence * c.tensor == self.key.gpusPerReplica)",
                message="curves: sequence x tensor of every curve must be key.gpusPerReplica; remove curves of other "
                "replicas",
                field=".curves",
            ),
            Rule(
                rule="!has(self.otherDegrees) || self.otherDegrees.all(d, d.sequence * d.tensor == "
                "self.key.gpusPerReplica)",
                message="otherDegrees: sequence x tensor of every degree must be key.gpusPerReplica; remove degrees of "
                "other replicas",
                field=".otherDegrees",
            ),
        )
    )

    key: Annotated[
        ProfileKey,
        Field(
            json_schema_extra=with_rules(
                Rule(
                    rule="self == oldSelf",
                    message="key cannot be changed, the measurements are of that replica; create another ShiftProfile",
                )
            )
        ),
    ]
    """The replicas that the profile is about. Set at creation, immutable."""

    source: ProfileSource = ProfileSource.USER
    """Who wrote the profile. Default: {default}. Takes effect with the next decision. Of two profiles with one key the
    user's goes first. Example: User for curves from a benchmark, so that a new deployment starts at the right
    threshold."""

    curves: Annotated[
        tuple[ProfileCurve, ...],
        Field(min_length=1, max_length=8, json_schema_extra=keyed_by("sequence", "tensor")),
    ]
    """The step-time curves: that of small steps (sequence 1, tensor gpusPerReplica), that of key.degree, and those of
    other degrees of the same GPUs if they are known."""

    crossover_tokens: Annotated[int | None, Field(ge=1, le=MAX_TOKENS)] = None
    """The smallest step from which key.degree stays the faster one. Unit: batched tokens per engine step. Absent where
    it never is. Example: 384."""

    kv_tokens: Annotated[int, Field(ge=1, le=MAX_KV_TOKENS)]
    """What the KV cache of one replica holds. Unit: tokens. Example: 480000 serves 120 requests of 4000 tokens at
    once."""

    other_degrees: Annotated[
        tuple[OtherDegree, ...], Field(max_length=16, json_schema_extra=keyed_by("sequence", "tensor"))
    ] = ()
    """What the KV cache holds at other degrees. A change of the degree that takes a rollout is decided by it: a degree
    that is not listed, or holds less than is in use, is not chosen. Example: a replica that starts with 4x1 beside 2x2
    keeps twice the weights on each GPU, so its KV cache is smaller."""

    fit_error_percent: Annotated[int | None, Field(ge=0, le=1000)] = None
    """How far step times seen live lie from the curves, mean of the absolute errors. Unit: percent. Absent while no
    live steps were compared. Example: 4; above about 20 the curves describe another machine."""


class ShiftProfile(ApiType):
    """How long engine steps take on one kind of replica: model, GPU, degree and engine version."""

    api_version: str = API_VERSION
    kind: str = KIND
    metadata: ObjectMeta
    spec: ShiftProfileSpec

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def key(self) -> ProfileKey:
        return self.spec.key
