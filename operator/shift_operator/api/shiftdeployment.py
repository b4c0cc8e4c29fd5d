"""ShiftDeployment: replicas of one model that shift between tensor and sequence parallelism at every engine step."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from shift_operator.api.base import API_VERSION, ApiType, Rule, with_rules
from shift_operator.api.engine import Engine
from shift_operator.api.model import Model
from shift_operator.api.parallelism import Parallelism
from shift_operator.api.rollout import Drain, Rollout, Scaling
from shift_operator.api.scheduling import Scheduling
from shift_operator.api.shift import Shift
from shift_operator.api.status import ShiftDeploymentStatus

KIND = "ShiftDeployment"


class ShiftDeploymentSpec(ApiType):
    """What the user asks for."""

    model_config = ConfigDict(
        json_schema_extra=with_rules(
            Rule(
                rule="self.parallelism.degree.sequence > 1 || self.shift.mode == 'TensorOnly'",
                message_expression=(
                    "'shift.mode ' + self.shift.mode + ' needs parallelism.degree.sequence above 1, there is nothing "
                    "to shift to; write shift.mode: TensorOnly, or a larger sequence'"
                ),
                field=".shift.mode",
            )
        )
    )

    model: Model
    """The model to serve."""

    engine: Engine
    """What runs in a replica's container."""

    parallelism: Parallelism
    """How many GPUs a replica has and how its large steps use them."""

    shift: Shift = Shift()
    """When a replica shifts, and who decides it."""

    replicas: Annotated[int, Field(ge=0, le=1000)] = 1
    """Replicas of the model, each one pod with gpusPerReplica GPUs. Unit: replicas. Default: {default}. Takes effect
    live: replicas that stay are not restarted. Example: 4 with gpusPerReplica 8 asks for 32 GPUs; 0 frees them all."""

    scaling: Scaling = Scaling()
    """Who sets the number of replicas."""

    rollout: Rollout = Rollout()
    """How replicas are replaced when their pods must change."""

    drain: Drain = Drain()
    """How a replica ends."""

    scheduling: Scheduling = Scheduling()
    """Where replicas may run."""

    suspend: bool = False
    """Runs no replica and keeps everything else. Default: {default}. Takes effect live: replicas drain and end.
    Example: true frees the GPUs overnight; false brings back spec.replicas with the threshold they had."""


class ObjectMeta(ApiType):
    """The parts of an object's metadata that the operator reads."""

    name: str
    namespace: str = "default"
    uid: str = ""
    generation: int = 1
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    labels: dict[str, str] = Field(default={})
    annotations: dict[str, str] = Field(default={})


class ShiftDeployment(ApiType):
    """Replicas of one model that run small engine steps with tensor and large ones with sequence parallelism
    (Shift Parallelism), and an operator that fits the threshold between them to the traffic."""

    model_config = ConfigDict(
        json_schema_extra=with_rules(
            Rule(
                rule="self.metadata.name.matches('^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$')",
                message="metadata.name must be at most 63 lower-case letters, digits and dashes and start with a "
                "letter, since the Service has the same name; write for example chat-8b",
            )
        )
    )

    api_version: str = API_VERSION
    kind: str = KIND
    metadata: ObjectMeta
    spec: ShiftDeploymentSpec
    status: ShiftDeploymentStatus | None = None

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def namespace(self) -> str:
        return self.metadata.namespace

    @property
    def wanted_replicas(self) -> int:
        """The replicas that should run now. Unit: replicas."""
        return 0 if self.spec.suspend else self.spec.replicas

    def owner_reference(self) -> dict[str, Any]:
        """What a child says of its owner, so that deleting the owner deletes the child, also while we are down."""
        return {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "name": self.metadata.name,
            "uid": self.metadata.uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }
