"""Which model a ShiftDeployment serves and where its weights come from."""

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from shift_operator.api.base import ApiType, ObjectName, Rule, SecretKey, folder_within, with_rules

HF = "hf://"
PVC = "pvc://"
FILE = "file:///"
S3 = "s3://"

S3_VARIABLES = (
    "AWS_ENDPOINT_URL",
    "AWS_DEFAULT_REGION",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "RUNAI_STREAMER_S3_USE_VIRTUAL_ADDRESSING",
)
"""What the engine's S3 client reads, and model.s3 sets."""

_URI = (
    r"self.matches('^(hf://[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*"
    r"|pvc://[a-z0-9]([-a-z0-9.]*[a-z0-9])?(/[A-Za-z0-9._-]+)*"
    r"|file://(/[A-Za-z0-9._-]+)+"
    r"|s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9._-]+)*)$')"
    " && !self.split('/').exists(part, part == '..' || part == '.')"
)


class SecretKeyRef(ApiType):
    """One key of a Secret in the ShiftDeployment's namespace."""

    name: ObjectName
    """The Secret's name."""

    key: SecretKey
    """The key within the Secret."""


class ModelCache(ApiType):
    """A PersistentVolumeClaim that keeps downloaded weights, so that a new pod need not download them again."""

    claim_name: ObjectName
    """The PersistentVolumeClaim's name, in the ShiftDeployment's namespace. With several replicas on several nodes it
    must be ReadWriteMany."""

    sub_path: Annotated[str | None, folder_within(named="model.cache.subPath", example="huggingface")] = None
    """The folder within the claim. Default: the claim's root. Example: two deployments that share a claim and a
    subPath download a model once."""


class Addressing(StrEnum):
    PATH = "Path"
    VIRTUAL_HOST = "VirtualHost"


class S3Access(ApiType):
    """How the object storage of an s3:// model is reached."""

    model_config = ConfigDict(
        json_schema_extra=with_rules(
            Rule(
                rule="has(self.endpointURL) || self.addressing == 'VirtualHost'",
                message="model.s3.addressing Path is for storage of your own; remove it, or write its endpointURL",
                field=".addressing",
            )
        )
    )

    endpoint_url: Annotated[
        str | None,
        Field(
            alias="endpointURL",
            min_length=1,
            max_length=512,
            json_schema_extra=with_rules(
                Rule(
                    rule=r"self.matches('^https?://[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?(:[0-9]{1,5})?$')",
                    message="model.s3.endpointURL must be http:// or https:// with a host and at most a port; write "
                    "for example https://minio.storage:9000",
                )
            ),
        ),
    ] = None
    """Where the storage answers. Default: Amazon S3 of the region. Takes effect with a rollout. Example:
    https://minio.storage:9000, a MinIO in the cluster."""

    addressing: Addressing = Addressing.VIRTUAL_HOST
    """Where a request names the bucket. Default: {default}, in the host's name, as Amazon S3 has it. `Path` has it in
    the path, which most storage of one's own needs. Takes effect with a rollout. Example: with endpointURL
    https://minio.storage:9000 and VirtualHost the engine asks the host models.minio.storage, which no DNS knows."""

    region: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=63,
            json_schema_extra=with_rules(
                Rule(
                    rule="self.matches('^[a-z0-9-]+$')",
                    message="model.s3.region must be small letters, digits and dashes; write for example eu-central-1",
                )
            ),
        ),
    ] = None
    """The region of the bucket. Default: what the client of the engine's image takes, us-east-1. Takes effect with a
    rollout. Example: eu-central-1."""

    credentials_secret_name: ObjectName | None = None
    """The Secret, in the ShiftDeployment's namespace, with the keys AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
    Default: none; the engine then uses what identity the node or the pod's ServiceAccount gives it. Takes effect when a
    pod starts. Example: a key that may list the bucket and read its objects is enough."""


class Model(ApiType):
    """The model to serve."""

    model_config = ConfigDict(
        json_schema_extra=with_rules(
            Rule(
                rule="self.uri.startsWith('hf://') || !has(self.revision)",
                message="model.revision only applies to hf:// models; remove it, or put the version into the path",
                field=".revision",
            ),
            Rule(
                rule="self.uri.startsWith('hf://') || !has(self.tokenSecretRef)",
                message="model.tokenSecretRef only applies to hf:// models; remove it",
                field=".tokenSecretRef",
            ),
            Rule(
                rule="self.uri.startsWith('hf://') || !has(self.cache)",
                message="model.cache keeps downloads of hf:// models; remove it, others are read in place",
                field=".cache",
            ),
            Rule(
                rule="self.uri.startsWith('s3://') || !has(self.s3)",
                message="model.s3 only applies to s3:// models; remove it",
                field=".s3",
            ),
        )
    )

    uri: Annotated[
        str,
        Field(
            min_length=1,
            max_length=512,
            json_schema_extra=with_rules(
                Rule(
                    rule=_URI,
                    message="model.uri must be hf://org/name, pvc://claim/path, file:///path or s3://bucket/path",
                )
            ),
        ),
    ]
    """Where the weights are. Takes effect with a rollout. `hf://org/name` is downloaded from the Hugging Face Hub,
    `pvc://claim/path` is read from a PersistentVolumeClaim of the same namespace (mounted read-only), `file:///path` is
    a folder in the engine's image, `s3://bucket/path` is streamed from object storage at each start, safetensors only
    (vLLM's runai_streamer). Example: hf://meta-llama/Llama-3.1-8B-Instruct. Path segments are letters, digits,
    dots, dashes and underscores; `.` and `..` are refused."""

    name: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=253,
            json_schema_extra=with_rules(
                Rule(
                    rule="self.matches('^[A-Za-z0-9][A-Za-z0-9._:/-]*$')",
                    message="model.name must start with a letter or digit and hold only letters, digits and . _ : / -; "
                    'write what clients will send as "model", for example llama-3.1-8b',
                )
            ),
        ),
    ] = None
    """The name under which clients ask for the model (`"model"` in the OpenAI API). Default: the ShiftDeployment's
    name. Takes effect with a rollout. Example: with `llama` a client that still sends the old name gets 404."""

    revision: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=128,
            json_schema_extra=with_rules(
                Rule(
                    rule="self.matches('^[A-Za-z0-9][A-Za-z0-9._/-]*$')",
                    message="model.revision must be a commit, tag or branch; write for example a commit hash",
                )
            ),
        ),
    ] = None
    """Commit, tag or branch of an hf:// model. Default: the Hub's main branch at the time each pod starts. Takes effect
    with a rollout. Example: without a commit two replicas that started on different days may serve different weights.
    Only for hf:// models."""

    token_secret_ref: SecretKeyRef | None = None
    """The Secret that holds a Hugging Face token, for gated or private models. Default: none. Takes effect when a pod
    starts: a rotated token needs no rollout while the weights are in the cache. Only for hf:// models."""

    cache: ModelCache | None = None
    """Where downloads are kept. Default: a folder that lives as long as the pod. Takes effect with a rollout. Example:
    with a claim, a replica of a 70B model starts without fetching 140 GB. Only for hf:// models."""

    s3: S3Access | None = None
    """How the storage of an s3:// model is reached. Default: Amazon S3, with the identity that the pod has. Takes
    effect with a rollout. Only for s3:// models."""
