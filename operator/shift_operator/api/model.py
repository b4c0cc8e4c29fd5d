"""Which model a ShiftDeployment serves and where its weights come from."""

from typing import Annotated

from pydantic import ConfigDict, Field

from shift_operator.api.base import ApiType, ObjectName, Rule, SecretKey, with_rules

HF = "hf://"
PVC = "pvc://"
FILE = "file:///"

_URI = (
    r"self.matches('^(hf://[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*"
    r"|pvc://[a-z0-9]([-a-z0-9.]*[a-z0-9])?(/[A-Za-z0-9._-]+)*"
    r"|file://(/[A-Za-z0-9._-]+)+)$') && !self.split('/').exists(part, part == '..' || part == '.')"
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

    sub_path: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=512,
            json_schema_extra=with_rules(
                Rule(
                    rule="!self.startsWith('/') && !self.split('/').exists(part, part == '..')",
                    message="model.cache.subPath must be a relative path without '..'; write for example 'huggingface'",
                )
            ),
        ),
    ] = None
    """The folder within the claim. Default: the claim's root. Example: two deployments that share a claim and a
    subPath download a model once."""


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
                    message="model.uri must be hf://org/name, pvc://claim/path or file:///path",
                )
            ),
        ),
    ]
    """Where the weights are. Takes effect with a rollout. `hf://org/name` is downloaded from the Hugging Face Hub,
    `pvc://claim/path` is read from a PersistentVolumeClaim of the same namespace (mounted read-only), `file:///path` is
    a folder in the engine's image. Example: hf://meta-llama/Llama-3.1-8B-Instruct. Path segments are letters, digits,
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
