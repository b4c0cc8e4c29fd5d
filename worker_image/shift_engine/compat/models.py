"""A second instance of the model that vLLM 0.32 has loaded, with its weights split otherwise."""

import copy
from typing import Any

import torch
from vllm.compilation.backends import set_model_tag
from vllm.config import set_current_vllm_config
from vllm.model_executor.model_loader import get_model

from shift_engine.compat.attention import without_experts
from shift_engine.compat.collectives import tensor_group
from shift_engine.compat.compilation import overlay_compilation
from shift_engine.compat.layers import empty_model
from shift_engine.degree import Degree
from shift_engine.shared_weights import NotShareable

OWN = "own"  # weights that are loaded, as the host's were


def build_model(
    vllm_config: Any, degree: Degree, group: Any, *, weights: str
) -> tuple[torch.nn.Module, dict[str, Any]]:
    """Make the same model with its weights split over `group` alone. -> (model, its attention layers by name).

    Its weights are OWN, or left without storage (may raise NotShareable). The configuration is a copy, marked in
    `additional_config` with the degree and `weights`, so that the compile caches of models with other strides differ.
    """
    mark = f"shift_{degree}"
    config = copy.copy(vllm_config)
    config.parallel_config = copy.copy(vllm_config.parallel_config)
    config.parallel_config.tensor_parallel_size = degree.tensor
    config.compilation_config = overlay_compilation(vllm_config.compilation_config, mark)
    mark_compiled(config, overlay=str(degree), weights=weights)
    with tensor_group(group), set_current_vllm_config(config), set_model_tag(mark):
        model = get_model(vllm_config=config) if weights == OWN else empty_model(config)
    return model, without_experts(config.compilation_config.static_forward_context)


def bytes_of_model(vllm_config: Any, degree: Degree, group: Any) -> int:
    """What the parameters of a model of `build_model` take on a rank; 0 where only loading it can tell."""
    try:
        model, _ = build_model(vllm_config, degree, group, weights="measured")
    except NotShareable:
        return 0
    return sum(parameter.nbytes for parameter in model.parameters())


def mark_compiled(config: Any, **marks: str) -> None:
    """Before the first compilation: code compiled for other strides or another graph must not be taken from a cache."""
    config.additional_config = dict(config.additional_config) | {"shift_compiled": marks}


def is_compiled_at_the_top(model: torch.nn.Module) -> bool:
    """True where torch.compile wraps the whole `*ForCausalLM`: its forward cannot be switched from outside."""
    return not getattr(model, "do_not_compile", True)
