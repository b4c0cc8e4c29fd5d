"""How a model's URI becomes vLLM's arguments, environment, and volumes of the pod."""

from dataclasses import dataclass
from typing import Any

from shift_operator.api.model import FILE, HF, PVC, Model

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
    return _from_hub(model)


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
