"""vLLM 0.32's mixtures of experts: which blocks the overlay can run over the host's experts, and how."""

import copy
from typing import Any

from torch import nn
from vllm.model_executor.layers.fused_moe.router.zero_expert_router import ZeroExpertRouter
from vllm.model_executor.layers.fused_moe.runner.moe_runner import MoERunner

# Blocks that call their experts once, add nothing to the sum and hold no collective of their own; each has its tests.
KNOWN_BLOCKS = ("MixtralMoE", "Qwen3MoeSparseMoeBlock")


def expert_blocks(host: nn.Module) -> dict[str, nn.Module]:
    """The host's MoE blocks by path: the modules that hold a router and its experts."""
    paths = [path.rpartition(".")[0] for path, module in host.named_modules() if isinstance(module, MoERunner)]
    return {path: host.get_submodule(path) for path in paths}


def experts_problem(host: nn.Module) -> str | None:
    """Why the host's MoE layers cannot run in the overlay, or None. The weights are loaded: kernels are chosen."""
    blocks = expert_blocks(host)
    if not blocks:
        return f"{type(host).__name__} is a mixture of experts without a layer of experts that the overlay knows"
    for path, block in blocks.items():
        if type(block).__name__ not in KNOWN_BLOCKS:
            return f"{path} is a {type(block).__name__}, and the overlay knows {' and '.join(KNOWN_BLOCKS)}"
        if problem := _runner_problem(block.experts):
            return f"{path} {problem}"
    return None


def without_final_reduce(block: nn.Module) -> nn.Module:
    """A twin of a host's MoE block over the same parameters, which returns this rank's part of the sum.

    `skip_final_all_reduce` is vLLM's own switch. The twin's runner calls the host's layer by name, so nothing is
    registered a second time.
    """
    runner = _twin(block.experts)
    runner.moe_config = copy.copy(runner.moe_config)
    runner.moe_config.skip_final_all_reduce = True
    twin = _twin(block)
    twin.experts = runner
    return twin


def _runner_problem(runner: Any) -> str | None:
    config = runner.moe_config
    problems = {
        "has a runner of its own": type(runner) is not MoERunner,
        "shares its experts out over the ranks (expert parallelism)": config.moe_parallel_config.use_ep,
        "has experts whose kernel reduces its output itself": runner._fused_output_is_reduced,
        "leaves its final all-reduce to the model": config.skip_final_all_reduce,
        "has rows split by vLLM": config.is_sequence_parallel,
        "transforms its experts' inputs or outputs": not (
            runner.routed_input_transform is None and runner.routed_output_transform is None
        ),
        "has zero experts": isinstance(runner.router, ZeroExpertRouter),
        "has shared experts": runner.shared_experts is not None,
    }
    return next((what for what, present in problems.items() if present), None)


def _twin(module: nn.Module) -> Any:
    """A shallow copy whose children can be replaced."""
    twin = copy.copy(module)
    twin._modules = dict(module._modules)
    return twin
