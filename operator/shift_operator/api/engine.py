"""The engine's container: its image, vLLM's flags, environment."""

from typing import Annotated

from pydantic import ConfigDict, Field

from shift_operator.api.base import ApiType, ObjectName, Rule, SecretKey, keyed_by, with_rules

NODES = "it spreads a replica over nodes"
# Set by the operator from other fields; a second value would win over it in the engine and make the spec a lie.
OWNED_FLAGS = {
    "--data-parallel-size": "run more replicas instead",
    "--headless": NODES,
    "--host": "it is the pod's address",
    "--master-addr": NODES,
    "--model": "set model.uri instead",
    "--nnodes": NODES,
    "--node-rank": NODES,
    "--pipeline-parallel-size": "all GPUs of a replica share every layer",
    "--port": "it is 8000, reached through the Service",
    "--revision": "set model.revision instead",
    "--served-model-name": "set model.name instead",
    "--shift-degree": "set parallelism.degree instead",
    "--shift-schedule-file": "the operator writes that file",
    "--shift-threshold": "set shift.thresholdTokens instead",
    "--shutdown-timeout": "set drain.timeoutSeconds instead",
    "--tensor-parallel-size": "set parallelism.gpusPerReplica instead",
    "--worker-cls": "the engine sets it",
    "-dp": "run more replicas instead",
    "-n": NODES,
    "-pp": "all GPUs of a replica share every layer",
    "-r": NODES,
    "-tp": "set parallelism.gpusPerReplica instead",
}
OWNED_VARIABLES = ("HF_HOME", "HF_TOKEN", "POD_IP", "POD_NAME", "POD_NAMESPACE", "SHIFT_TERMINATION_LOG")


def _owned_flag_rule(flag: str, instead: str) -> Rule:
    """vLLM also takes underscores for dashes, `--flag=value`, and any unambiguous beginning of a long flag."""
    name = "a.split('=')[0].replace('_', '-')"
    is_flag = f"{name} == '{flag}'"
    if flag.startswith("--"):
        is_flag = f"{name}.size() > 4 && '{flag}'.startsWith({name})"
    return Rule(
        rule=f"!self.exists(a, a.startsWith('-') && {is_flag})",
        message=f"engine.args: {flag} is set by the operator ({instead}); remove it",
    )


class FieldRef(ApiType):
    """A field of the pod itself."""

    field_path: Annotated[str, Field(min_length=1, max_length=256)]
    """The field, for example spec.nodeName."""


class KeyRef(ApiType):
    """One key of a Secret or ConfigMap in the ShiftDeployment's namespace."""

    name: ObjectName
    """The object's name."""

    key: SecretKey
    """The key within it."""

    optional: bool | None = None
    """Whether the pod may start without it. Default: no."""


class EnvironmentSource(ApiType):
    """Where an environment variable's value comes from: exactly one of these."""

    model_config = ConfigDict(
        json_schema_extra=with_rules(
            Rule(
                rule="[has(self.secretKeyRef), has(self.configMapKeyRef), has(self.fieldRef)].filter(x, x).size() == 1",
                message="valueFrom needs exactly one of secretKeyRef, configMapKeyRef and fieldRef",
            )
        )
    )

    secret_key_ref: KeyRef | None = None
    """A Secret's key."""

    config_map_key_ref: KeyRef | None = None
    """A ConfigMap's key."""

    field_ref: FieldRef | None = None
    """A field of the pod."""


class EnvironmentVariable(ApiType):
    """An environment variable of the engine's container."""

    model_config = ConfigDict(
        json_schema_extra=with_rules(
            Rule(
                rule="!(has(self.value) && has(self.valueFrom))",
                message="engine.env: a variable has either value or valueFrom; remove one of them",
            )
        )
    )

    name: Annotated[
        str,
        Field(
            min_length=1,
            max_length=128,
            json_schema_extra=with_rules(
                Rule(
                    rule="self.matches('^[A-Za-z_][A-Za-z0-9_]*$')",
                    message="engine.env: a variable's name has letters, digits and underscores, first no digit",
                ),
                Rule(
                    rule=f"!(self in [{', '.join(map(repr, OWNED_VARIABLES))}])",
                    message="engine.env: HF_HOME, HF_TOKEN, POD_* and SHIFT_TERMINATION_LOG are set by the operator; "
                    "remove them, and use model.cache and model.tokenSecretRef",
                ),
            ),
        ),
    ]
    """The variable's name, for example VLLM_LOGGING_LEVEL."""

    value: Annotated[str | None, Field(max_length=4096)] = None
    """Its value."""

    value_from: EnvironmentSource | None = None
    """Where to take the value from when the pod starts."""


class PullSecret(ApiType):
    """A Secret of type kubernetes.io/dockerconfigjson in the ShiftDeployment's namespace."""

    name: ObjectName
    """The Secret's name."""


CpuQuantity = Annotated[str, Field(max_length=16, pattern=r"^([1-9][0-9]{0,2}|[1-9][0-9]{0,5}m)$")]
MemoryQuantity = Annotated[str, Field(max_length=16, pattern=r"^[1-9][0-9]{0,5}(Mi|Gi)$")]


class Resources(ApiType):
    """What a replica needs of its node besides GPUs. There are no limits: a throttled engine stalls all its GPUs."""

    cpu: CpuQuantity | None = None
    """CPU that the scheduler sets aside. Unit: cores, or thousandths with m. Default: none. Takes effect with a
    rollout. Example: "16" for 8 GPUs, two per process; without it a crowded node slows every step down."""

    memory: MemoryQuantity | None = None
    """Memory that the scheduler sets aside. Unit: Mi or Gi, powers of two. Default: none. Takes effect with a rollout.
    Example: 64Gi. Shared memory of the engine's processes counts."""


Argument = Annotated[str, Field(min_length=1, max_length=1024)]


class Engine(ApiType):
    """What runs in a replica's container."""

    image: Annotated[
        str,
        Field(
            min_length=1,
            max_length=512,
            json_schema_extra=with_rules(
                Rule(
                    rule=r"self.matches('^[a-z0-9][A-Za-z0-9._:/-]*(:[A-Za-z0-9_][A-Za-z0-9_.-]*|@sha256:[a-f0-9]{64})$')"
                    " && !self.endsWith(':latest')",
                    message="engine.image needs a tag other than latest, or a digest, since two replicas of one spec "
                    "must run the same engine; write for example ghcr.io/shiftparallel/shift-engine:0.1.0",
                )
            ),
        ),
    ]
    """The image with the shift engine as its entry point. Takes effect with a rollout. Example:
    ghcr.io/shiftparallel/shift-engine:0.1.0; a new tag replaces the replicas one after the other. It needs a tag other
    than latest, or a digest."""

    args: Annotated[
        tuple[Argument, ...],
        Field(
            max_length=64,
            json_schema_extra={
                "x-kubernetes-list-type": "atomic",
                **with_rules(*(_owned_flag_rule(flag, instead) for flag, instead in OWNED_FLAGS.items())),
            },
        ),
    ] = ()
    """vLLM's own flags, passed on as they stand, one item per word. Default: none. Takes effect with a rollout.
    Example: ["--max-num-batched-tokens", "8192"] lets a step be that large; the threshold must lie below it to matter.
    Flags that the operator sets (address, port, model, parallelism, shutdown timeout) are refused."""

    env: Annotated[tuple[EnvironmentVariable, ...], Field(max_length=64, json_schema_extra=keyed_by("name"))] = ()
    """Environment variables of the container. Default: none. Takes effect with a rollout. Example: NCCL_DEBUG=INFO.
    Variables that the operator sets (HF_HOME, HF_TOKEN, POD_*, SHIFT_TERMINATION_LOG) are refused."""

    image_pull_secrets: Annotated[tuple[PullSecret, ...], Field(max_length=8, json_schema_extra=keyed_by("name"))] = ()
    """Secrets to pull the image with. Default: none. Takes effect with a rollout."""

    resources: Resources = Resources()
    """What a replica needs of its node besides GPUs."""
