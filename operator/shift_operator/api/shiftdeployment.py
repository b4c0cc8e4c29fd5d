"""ShiftDeployment: replicas of one model that shift between tensor and sequence parallelism at every engine step."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from shift_operator.api.base import API_VERSION, ApiType, Rule, with_rules
from shift_operator.api.disruption import Disruption
from shift_operator.api.engine import Engine
from shift_operator.api.gateway import Gateway
from shift_operator.api.model import S3_VARIABLES, Model
from shift_operator.api.network import NetworkPolicy
from shift_operator.api.parallelism import Parallelism
from shift_operator.api.rollout import Drain, Rollout
from shift_operator.api.scaling import MAX_REPLICAS, Scaling
from shift_operator.api.scheduling import Scheduling
from shift_operator.api.shift import Shift
from shift_operator.api.slo import Slo
from shift_operator.api.status import ShiftDeploymentStatus
from shift_operator.api.template import PodTemplate

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
            ),
            Rule(
                rule="self.scaling.mode != 'Managed' || has(self.slo)",
                message="scaling.mode Managed needs slo, it runs the fewest replicas that keep it; write for example "
                "slo: {ttft: {milliseconds: 800}}, or scaling.mode: Fixed",
                field=".slo",
            ),
            Rule(
                rule="!has(self.model.s3) || !has(self.engine.env) || self.engine.env.all(v, !(v.name in "
                f"[{', '.join(map(repr, S3_VARIABLES))}]))",
                message=f"engine.env: with model.s3 the operator sets {', '.join(S3_VARIABLES[:-1])} and "
                f"{S3_VARIABLES[-1]}; remove them, and use the fields of model.s3",
                field=".engine.env",
            ),
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

    replicas: Annotated[int, Field(ge=0, le=MAX_REPLICAS)] = 1
    """Replicas of the model, each one pod with gpusPerReplica GPUs. Unit: replicas. Default: {default}. Takes effect
    live: replicas that stay are not restarted. In scaling.mode Managed it is the number to start with. Example: 4 with
    gpusPerReplica 8 asks for 32 GPUs; 0 frees them all."""

    scaling: Scaling = Scaling()
    """Who sets the number of replicas."""

    slo: Slo | None = None
    """What clients are promised. Default: nothing; scaling.mode Managed needs it. Takes effect with the next
    decision."""

    rollout: Rollout = Rollout()
    """How replicas are replaced when their pods must change."""

    drain: Drain = Drain()
    """How a replica ends."""

    disruption: Disruption = Disruption()
    """How many replicas must stay while nodes are drained."""

    gateway: Gateway = Gateway()
    """How an inference gateway reaches the replicas, in clusters that have the InferencePool kind."""

    network_policy: NetworkPolicy = NetworkPolicy()
    """Who may reach the replicas over the network."""

    scheduling: Scheduling = Scheduling()
    """Where replicas may run."""

    template: PodTemplate = PodTemplate()
    """Additions to the replicas' pods that no other field has: sidecars, volumes, labels."""

    suspend: bool = False
    """Runs no replica and keeps everything else. Default: {default}. Takes effect live: replicas drain and end.
    Example: true frees the GPUs overnight; false brings back the replicas with the threshold they had."""


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
