"""vLLM 0.32's attention layers, by the names under which they register themselves in the forward context."""

from typing import Any

import torch
from vllm.model_executor.layers.attention import Attention
from vllm.model_executor.layers.fused_moe.runner.moe_runner_interface import MoERunnerInterface
from vllm.v1.attention.backend import AttentionType


def layers_with_state(vllm_config: Any, host: torch.nn.Module) -> dict[str, Any]:
    """The host's layers that keep something between tokens, by name; not those of a draft model beside it."""
    own = {id(module) for module in host.modules()}
    registered = without_experts(vllm_config.compilation_config.static_forward_context)
    return {name: layer for name, layer in registered.items() if id(layer) in own}


def without_experts(layers: dict[str, Any]) -> dict[str, Any]:
    """Layers of experts register themselves too, since their op finds them by name."""
    return {name: layer for name, layer in layers.items() if not isinstance(layer, MoERunnerInterface)}


def layer_problem(name: str, layer: Any) -> str | None:
    """Why the overlay cannot run this layer, or None. Layers with state between tokens register themselves in the
    forward context; only plain decoder attention is known to the overlay."""
    if type(layer) is not Attention:
        return f"layer {name} is a {type(layer).__name__}, and the overlay runs plain attention only"
    if layer.attn_type != AttentionType.DECODER:
        return f"layer {name} has attention of type {layer.attn_type}, and the overlay runs decoders only"
    if layer.kv_sharing_target_layer_name is not None:
        return f"layer {name} shares the KV cache of {layer.kv_sharing_target_layer_name}"
    return None
