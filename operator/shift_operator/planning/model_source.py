"""How a model's URI becomes vLLM's arguments, environment, and volumes of the pod."""

from dataclasses import dataclass
from typing import Any

from shift_operator.api.model import FILE, HF, PVC, S3, Addressing, Model, S3Access

MODEL_MOUNT = "/mnt/model"
CACHE_MOUNT = "/mnt/huggingface"

Part = dict[str, Any]


@dataclass(frozen=True)
class ModelSource:
    """What a pod needs to read its model. `name_or_path` is what vLLM calls the model."""

    name_or_path: str
    args: tuple[str, ...] = ()
    env: tuple[Part, ...] = ()
    volumes: tuple[Part, ...] = ()
    mounts: tuple[Part, ...] = ()


def model_source(model: Model) -> ModelSource:
    """The source for a model; a URI without a scheme is taken for a Hub name, and the engine will say so."""
    if model.uri.startswith(PVC):
        claim, _, path = model.uri.removeprefix(PVC).partition("/")
        return ModelSource(
            name_or_path=f"{MODEL_MOUNT}/{path}" if path else MODEL_MOUNT,
            volumes=({"name": "model", "persistentVolumeClaim": {"claimName": claim, "readOnly": True}},),
            mounts=({"name": "model", "mountPath": MODEL_MOUNT, "readOnly": True},),
        )
    if model.uri.startswith(FILE):
        return ModelSource(name_or_path=model.uri.removeprefix("file://"))
    if model.uri.startswith(S3):
        # vLLM streams what it finds at such a name by itself; the flag says so where a person reads the pod.
        args = ("--load-format", "runai_streamer")
        return ModelSource(name_or_path=model.uri, args=args, env=_s3_access(model.s3 or S3Access()))
    return _from_hub(model)


def _s3_access(access: S3Access) -> tuple[Part, ...]:
    """The variables of Amazon's clients, and the streamer's own for the form of its requests."""
    env: list[Part] = []
    if access.endpoint_url is not None:
        env.append({"name": "AWS_ENDPOINT_URL", "value": access.endpoint_url})
    if access.addressing is Addressing.PATH:
        env.append({"name": "RUNAI_STREAMER_S3_USE_VIRTUAL_ADDRESSING", "value": "0"})
    if access.region is not None:
        env.append({"name": "AWS_DEFAULT_REGION", "value": access.region})
    if secret := access.credentials_secret_name:
        keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        env += [{"name": key, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}} for key in keys]
    return tuple(env)


def _from_hub(model: Model) -> ModelSource:
    env: list[Part] = [{"name": "HF_HOME", "value": CACHE_MOUNT}]
    if token := model.token_secret_ref:
        env.append({"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": token.name, "key": token.key}}})
    mount: Part = {"name": "huggingface", "mountPath": CACHE_MOUNT}
    if model.cache is None:
        volume: Part = {"name": "huggingface", "emptyDir": {}}
    else:
        volume = {"name": "huggingface", "persistentVolumeClaim": {"claimName": model.cache.claim_name}}
        if model.cache.sub_path is not None:
            mount["subPath"] = model.cache.sub_path
    return ModelSource(
        name_or_path=model.uri.removeprefix(HF),
        args=("--revision", model.revision) if model.revision else (),
        env=tuple(env),
        volumes=(volume,),
        mounts=(mount,),
    )
