"""The overlay's two custom ops, known to torch once this is imported. Dynamo sees through neither."""

import torch
from vllm.utils.torch_utils import direct_register_custom_op

from shift_engine.moe import host_experts, host_experts_fake
from shift_engine.ulysses import ulysses_attention, ulysses_attention_fake

ATTENTION = "shift::ulysses_attention"
_library = torch.library.Library("shift", "FRAGMENT")  # lives as long as the op is used
direct_register_custom_op(
    "ulysses_attention",
    ulysses_attention,
    mutates_args=["output"],
    fake_impl=ulysses_attention_fake,
    target_lib=_library,
)
direct_register_custom_op(
    "host_experts",
    host_experts,
    mutates_args=["output"],
    fake_impl=host_experts_fake,
    target_lib=_library,
)
