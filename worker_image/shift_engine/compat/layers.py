"""vLLM 0.32's layers, as `shared_weights` must know them, and a model without storage."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from vllm.model_executor.kernels.linear import ChannelWiseTorchFP8ScaledMMLinearKernel, CutlassFP8ScaledMMLinearKernel
from vllm.model_executor.layers.activation import GeluAndMul, SiluAndMul
from vllm.model_executor.layers.fused_moe.runner.moe_runner_interface import MoERunnerInterface
from vllm.model_executor.layers.linear import (
    ColumnParallelLinear,
    MergedColumnParallelLinear,
    QKVParallelLinear,
    ReplicatedLinear,
    RowParallelLinear,
    UnquantizedLinearMethod,
)
from vllm.model_executor.layers.quantization.compressed_tensors.compressed_tensors import CompressedTensorsLinearMethod
from vllm.model_executor.layers.quantization.compressed_tensors.schemes import CompressedTensorsW8A8Fp8
from vllm.model_executor.layers.quantization.utils.quant_utils import kFp8DynamicTokenSym, kFp8StaticChannelSym
from vllm.model_executor.layers.vocab_parallel_embedding import (
    ParallelLMHead,
    UnquantizedEmbeddingMethod,
    VocabParallelEmbedding,
)
from vllm.model_executor.model_loader.utils import initialize_model
from vllm.platforms import current_platform
from vllm.utils.torch_utils import set_default_torch_dtype

from shift_engine.shared_weights import NotShareable, Parameter, RankMajor, Split

HALVES = (SiluAndMul, GeluAndMul)  # they combine the two halves of the last dimension
GEMM_BACKENDS = ("auto", "torch")  # F.linear, which takes a weight with any leading dimension
UNQUANTISED = (type(None), UnquantizedLinearMethod, UnquantizedEmbeddingMethod)
# fp8 with a scale for each row of a weight. By kernel, whether it takes a weight with any leading dimension: CUTLASS's
# on Hopper does not ask for it, and reads as if there were nothing between the rows
# (csrc/quantization/w8a8/cutlass/c3x/scaled_mm_sm90_fp8_dispatch.cuh: make_cute_packed_stride).
FP8_KERNELS = {CutlassFP8ScaledMMLinearKernel: False, ChannelWiseTorchFP8ScaledMMLinearKernel: True}


def host_problem(vllm_config: Any, host: nn.Module) -> str | None:
    """Why the overlay must load weights of its own whatever its layers are, or None."""
    if vllm_config.kernel_config.linear_backend not in GEMM_BACKENDS:
        return f"--linear-backend {vllm_config.kernel_config.linear_backend} may want contiguous weights"
    if hasattr(host, "process_weights_after_loading"):
        return f"{type(host).__name__} changes its weights after loading"
    for name, parameter in _all_but_experts(host):
        if parameter.device.type != current_platform.device_type or parameter.numel() == 0:
            return f"{name} is not held as loaded (offloaded, or prepacked as on CPU)"
    return None


def _all_but_experts(host: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """The host's parameters that the overlay needs at all: experts run where they are, in whatever form."""
    runners = tuple(f"{path}." for path, module in host.named_modules() if isinstance(module, MoERunnerInterface))
    return ((name, parameter) for name, parameter in host.named_parameters() if not name.startswith(runners))


def empty_model(config: Any) -> nn.Module:
    """The model that `config` describes, its parameters on the meta device. Raises NotShareable where it cannot be."""
    try:
        with set_default_torch_dtype(config.model_config.dtype), torch.device("meta"):
            return initialize_model(vllm_config=config).eval()
    except Exception as error:  # whatever a model's constructor does with tensors that have no storage
        raise NotShareable(f"the model cannot be made without storage: {type(error).__name__}: {error}") from error


def parameters_of(model: nn.Module, host: nn.Module) -> list[Parameter]:
    """Every parameter of the overlay's model, once. Raises NotShareable for a layer that is not known.

    A merged gate and up projection whose activation can be `RankMajor` counts as ROWS.
    """
    return [
        parameter
        for path, layer in model.named_modules()
        for parameter in _split_layer(path, layer, host.get_submodule(path), _is_rank_major(model, path))
    ]


def make_rank_major(model: nn.Module, sequence: int) -> None:
    """Wrap the activations behind the merged projections that hold the ranks' rows in rank order."""
    for path, _ in list(model.named_modules()):
        if _is_rank_major(model, path):
            parent = model.get_submodule(path.rpartition(".")[0])
            parent.act_fn = RankMajor(parent.act_fn, sequence)


def fill_buffers(model: nn.Module, host: nn.Module) -> None:
    """Take the host's buffers, which no degree splits. Raises NotShareable where a tensor stays without storage."""
    theirs = dict(host.named_buffers(remove_duplicate=False))
    for path, module in model.named_modules():
        for name, buffer in module.named_buffers(recurse=False):
            if buffer.is_meta:
                twin = theirs.get(f"{path}.{name}" if path else name)
                if twin is None or twin.shape != buffer.shape:
                    raise NotShareable(f"buffer {path}.{name} has no twin in the host's model")
                module._buffers[name] = twin
        for name, value in vars(module).items():
            if isinstance(value, torch.Tensor) and value.is_meta:
                raise NotShareable(f"{path}.{name} is a tensor that is neither parameter nor buffer")


def finish_layers(model: nn.Module) -> None:
    """What vLLM does to layers after loading: nothing to unquantised ones on GPUs, those in fp8 are transposed."""
    for module in model.modules():
        method = getattr(module, "quant_method", None)
        if method is not None:
            method.process_weights_after_loading(module)


def _is_rank_major(model: nn.Module, path: str) -> bool:
    parent_path, _, name = path.rpartition(".")
    if name != "gate_up_proj":
        return False
    parent = model.get_submodule(parent_path)
    layer = parent.gate_up_proj
    return (
        type(layer) is MergedColumnParallelLinear
        and len(set(layer.output_partition_sizes)) == 1
        and len(layer.output_partition_sizes) == 2
        and type(getattr(parent, "act_fn", None)) in HALVES
        and type(getattr(parent, "down_proj", None)) is RowParallelLinear
    )


def _split_layer(path: str, layer: nn.Module, of_host: Any, rank_major: bool) -> Iterator[Parameter]:
    method, fp8_kernel = type(getattr(layer, "quant_method", None)), _fp8_kernel(layer)
    for name, _ in layer.named_parameters(recurse=False):
        full = f"{path}.{name}"
        if method not in UNQUANTISED and fp8_kernel not in FP8_KERNELS:
            raise NotShareable(f"{full} is held by {method.__name__}")
        split = _split_of(layer, name, rank_major)
        if split is None:
            raise NotShareable(f"{full} belongs to a {type(layer).__name__}, whose split is not known")
        merged = split in (Split.BLOCKS, Split.HEADS)
        yield Parameter(
            *(full, split, tuple(of_host.output_partition_sizes) if merged else ()),
            transposed=fp8_kernel is not None and name == "weight",
            strided=FP8_KERNELS.get(fp8_kernel, True),
        )


def _fp8_kernel(layer: Any) -> type | None:
    """What multiplies by a weight in fp8 that has a scale for each row, each token one of its own; None for any other
    layer."""
    if type(getattr(layer, "quant_method", None)) is not CompressedTensorsLinearMethod:
        return None
    scheme = layer.scheme
    if type(scheme) is not CompressedTensorsW8A8Fp8 or scheme.weight_quant_key != kFp8StaticChannelSym:
        return None
    return type(scheme.fp8_linear) if scheme.activation_quant_key == kFp8DynamicTokenSym else None


def _split_of(layer: Any, name: str, rank_major: bool) -> Split | None:
    kind = type(layer)
    if getattr(layer, "quant_method", None) is None or getattr(layer, "disable_tp", False) or kind is ReplicatedLinear:
        return Split.WHOLE
    if kind is RowParallelLinear:
        return Split.COLUMNS if name == "weight" else Split.WHOLE  # the bias is added after the all-reduce
    if kind is QKVParallelLinear:
        return Split.HEADS
    if kind is MergedColumnParallelLinear:
        return Split.ROWS if rank_major else Split.BLOCKS
    if kind is ColumnParallelLinear:
        return Split.ROWS
    if kind in (VocabParallelEmbedding, ParallelLMHead) and not layer.num_added_embeddings:
        return Split.ROWS
    return None
