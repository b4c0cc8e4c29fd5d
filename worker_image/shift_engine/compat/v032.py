"""vLLM 0.32: every place where the overlay leans on vLLM's inside. No vLLM class is patched.

The one private global that is set, `parallel_state._TP`, is set around the overlay's construction and its forward where
its weights are split (TP > 1): layers ask it for their group.
"""

import copy
import gc
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy
import psutil
import torch
from vllm import envs
from vllm.compilation.backends import set_model_tag
from vllm.config import CompilationMode, CUDAGraphMode, set_current_vllm_config
from vllm.distributed import parallel_state
from vllm.model_executor.layers.attention import Attention
from vllm.model_executor.layers.fused_moe.runner.moe_runner_interface import MoERunnerInterface
from vllm.model_executor.model_loader import get_model
from vllm.platforms import current_platform
from vllm.utils.torch_utils import async_tensor_h2d, direct_register_custom_op, set_random_seed
from vllm.utils.torch_utils import current_stream as current_stream  # without the cost of torch's own
from vllm.v1.attention.backend import AttentionType

from shift_engine.compat import v2_runner
from shift_engine.compat.compilation import overlay_compilation
from shift_engine.compat.layers import empty_model
from shift_engine.degree import Degree
from shift_engine.moe import host_experts, host_experts_fake
from shift_engine.shared_weights import NotShareable
from shift_engine.ulysses import ulysses_attention, ulysses_attention_fake

# Its layers have their test in the overlay. They compute each row alone, whatever rows stand beside it.
KNOWN_QUANTISATION = ("compressed-tensors",)

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


def base_worker() -> Any:
    """The platform's own worker class, which ours extends."""
    if current_platform.is_cpu():
        from vllm.v1.worker.cpu_worker import CPUWorker

        return CPUWorker
    from vllm.v1.worker.gpu_worker import Worker

    return Worker


def kv_cache_tensors(model_runner: Any) -> Iterator[torch.Tensor]:
    """The tensors of this rank's KV cache, none of a model without one. A layer that keeps a state has several."""
    for layer in getattr(model_runner, "kv_caches", ()):
        yield from layer if isinstance(layer, list | tuple) else (layer,)


def new_group(ranks: list[list[int]], name: str, *, for_layers: bool) -> Any:
    """Collective. This rank's coordinator of the partition `ranks`. `for_layers`: vLLM's layers use it, so it gets the
    device's communicator; torch's own group is there either way."""
    world = parallel_state.get_world_group()
    return parallel_state.init_model_parallel_group(
        *(ranks, world.local_rank, torch.distributed.get_backend(world.device_group)),
        group_name=name,
        use_device_communicator=for_layers,
    )


def all_gather_rows(own: torch.Tensor, group: Any) -> torch.Tensor:
    """Collective. [m, d] of each rank of `group` -> [ranks * m, d] in rank order."""
    rows = own.new_empty((group.world_size * own.shape[0], *own.shape[1:]))
    torch.distributed.all_gather_single(rows, own.contiguous(), group=group.device_group)
    return rows


def on_device(arrays: Sequence[Any], device: torch.device) -> list[torch.Tensor]:
    """Arrays of one type, in one copy that nothing waits for."""
    whole = async_tensor_h2d(numpy.concatenate(arrays), device=device)
    return [*whole.split([len(array) for array in arrays])]


def sum_and_scatter_rows(partial: torch.Tensor, sequence: Any, tensor: Any) -> torch.Tensor:
    """Collective. [m * SP, d] of each rank of the replica -> [m, d]: this rank's rows, summed over all of them."""
    own = partial.new_empty((partial.shape[0] // sequence.world_size, *partial.shape[1:]))
    torch.distributed.reduce_scatter_single(own, partial, group=sequence.device_group)
    return own if tensor.world_size == 1 else tensor.all_reduce(own)


@contextmanager
def tensor_group(group: Any) -> Iterator[None]:
    """Within, vLLM's layers take `group` for the tensor-parallel group."""
    host = parallel_state._TP
    parallel_state._TP = group
    try:
        yield
    finally:
        parallel_state._TP = host


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
    return model, _but_experts(config.compilation_config.static_forward_context)


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


def layers_with_state(vllm_config: Any, host: torch.nn.Module) -> dict[str, Any]:
    """The host's layers that keep something between tokens, by name; not those of a draft model beside it."""
    own = {id(module) for module in host.modules()}
    registered = _but_experts(vllm_config.compilation_config.static_forward_context)
    return {name: layer for name, layer in registered.items() if id(layer) in own}


def _but_experts(layers: dict[str, Any]) -> dict[str, Any]:
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


def configuration_problem(vllm_config: Any, *, v2: bool) -> str | None:
    """Why this configuration runs plain tensor parallelism, or None. `v2`: it uses the V2 model runner."""
    parallel, model = vllm_config.parallel_config, vllm_config.model_config
    speculative = vllm_config.speculative_config
    problems = {
        "the V1 model runner on GPUs (leave VLLM_USE_V2_MODEL_RUNNER unset)": not v2 and not current_platform.is_cpu(),
        "compilation mode STOCK_TORCH_COMPILE": vllm_config.compilation_config.mode
        == CompilationMode.STOCK_TORCH_COMPILE,
        "pipeline parallelism": parallel.pipeline_parallel_size > 1,
        "data parallelism": parallel.data_parallel_size > 1,
        "context parallelism": parallel.prefill_context_parallel_size > 1 or parallel.decode_context_parallel_size > 1,
        "microbatching (--enable-dbo)": parallel.enable_dbo,
        "LoRA": vllm_config.lora_config is not None,
        "expert parallelism": parallel.enable_expert_parallel,
        "MLA attention": model.use_mla,
        "state-space layers": model.is_hybrid or model.is_attention_free,
        "multimodal models": model.is_multimodal_model,
        "prompt embeddings": model.enable_prompt_embeds,
        "--kv-sharing-fast-prefill": vllm_config.cache_config.kv_sharing_fast_prefill,
        "pooling models": model.runner_type == "pooling",
        "encoder-decoder models": model.is_encoder_decoder,
        "weights quantised otherwise than by compressed-tensors": vllm_config.quant_config is not None
        and vllm_config.quant_config.get_name() not in KNOWN_QUANTISATION,
        "offloaded weights": vllm_config.offload_config.uva.cpu_offload_gb > 0
        or vllm_config.offload_config.prefetch.offload_group_size > 0,
        "attention fused with quantisation (fuse_attn_quant)": bool(
            vllm_config.compilation_config.pass_config.fuse_attn_quant  # its scale stays behind in the host's layers
        ),
        "batch invariance (VLLM_BATCH_INVARIANT)": envs.VLLM_BATCH_INVARIANT,  # the degree follows the batch
        "sleep mode": model.enable_sleep_mode,
        "weight transfer": vllm_config.weight_transfer_config is not None,
        "speculative decoding other than n-gram and EAGLE": speculative is not None
        and speculative.method not in ("ngram", "eagle"),
    }
    found = [what for what, present in problems.items() if present]
    return f"the overlay does not support {' or '.join(found)} yet" if found else None


def tensor_group_problem(degree: Degree) -> str | None:
    """Why ranks of a tensor group of `degree` cannot sum what they have, or None."""
    if 1 < degree.tensor < degree.gpus and envs.VLLM_USE_NCCL_SYMM_MEM:
        return "VLLM_USE_NCCL_SYMM_MEM has one all-reduce for each process, over all GPUs of the replica"
    return None


def steps_wait_for_other_replicas(vllm_config: Any) -> bool:
    """True where each forward is collective over data-parallel replicas, dummy ones too: their experts are one set."""
    return bool(vllm_config.parallel_config.data_parallel_size > 1 and vllm_config.model_config.is_moe)


def largest_decode_graph(vllm_config: Any) -> int | None:
    """Rows of the largest step of decodes alone that is replayed as one CUDA graph, None where none is."""
    compilation = vllm_config.compilation_config
    if not compilation.cudagraph_mode.has_full_cudagraphs():
        return None
    largest = vllm_config.scheduler_config.max_num_seqs * vllm_config.uniform_decode_query_len
    return int(min(largest, compilation.max_cudagraph_capture_size))


def largest_step_in_pieces(vllm_config: Any) -> int | None:
    """Rows of the largest step with prefills of which each layer is a CUDA graph, while decodes alone have whole ones;
    None where it is otherwise."""
    compilation = vllm_config.compilation_config
    if compilation.cudagraph_mode != CUDAGraphMode.FULL_AND_PIECEWISE:
        return None
    return int(min(compilation.max_cudagraph_capture_size, vllm_config.scheduler_config.max_num_batched_tokens))


def is_compiled_at_the_top(model: torch.nn.Module) -> bool:
    """True where torch.compile wraps the whole `*ForCausalLM`: its forward cannot be switched from outside."""
    return not getattr(model, "do_not_compile", True)


def heads_of(vllm_config: Any) -> tuple[int, int]:
    """(query heads, KV heads) of the whole model."""
    model = vllm_config.model_config
    return int(model.model_arch_config.total_num_attention_heads), int(model.get_total_num_kv_heads())


def dummy_step(
    runner: Any, tokens: int, *, v2: bool, writes_cache: bool = False, last_alone: bool = False
) -> torch.Tensor:
    """One forward over `tokens` rows of random token ids, the same on every rank. -> hidden states [n, d].

    It leaves the KV cache as it is: the slots of a dummy run are all -1. With `writes_cache` the V2 runner writes its
    first blocks, and attention reads them, so only before serving; with `last_alone` the last row then has a step of
    its own. The V1 runner writes nothing either way.
    """
    if v2:
        if writes_cache:
            return v2_runner.prefill_step(runner, tokens, last_alone=last_alone)
        return v2_runner.dummy_step(runner, tokens)
    tokens, shape = v1_batch(tokens, runner.scheduler_config.max_num_seqs, runner.max_model_len)
    runner.input_ids.gpu[:tokens].copy_(v2_runner.random_ids(runner.model_config.get_vocab_size(), tokens))
    runner.positions[:tokens].copy_(torch.arange(tokens) % runner.max_model_len)
    hidden, _ = runner._dummy_run(tokens, force_attention=True, skip_eplb=True, **shape)
    runner.input_ids.gpu[:tokens].zero_()
    runner.positions[:tokens].zero_()
    return hidden


def v1_batch(tokens: int, requests: int, longest: int) -> tuple[int, dict[str, int]]:
    """Of a dummy run of the V1 runner that has at most so many requests: how many tokens it takes, and how.

    As a busy step has it, half decodes and half one prefill chunk. Where no request is that long, all are alike: beyond
    the longest, attention would look for a request's KV blocks behind the end of its table.
    """
    if tokens == 1:
        return 1, {"uniform_decode": True}
    chunk = tokens - min(requests - 1, tokens // 2)
    if chunk < longest:  # vLLM takes one token to be there before it
        return tokens, {"create_mixed_batch": True}
    each = tokens // requests
    return each * requests, {"profile_seq_lens": each}


def reset_random_state(vllm_config: Any) -> None:
    """As vLLM does after its own warm-up: dummy steps must not change what is sampled."""
    set_random_seed(vllm_config.model_config.seed, vllm_config.parallel_config.data_parallel_index)


@contextmanager
def same_random_state() -> Iterator[None]:
    """What runs within draws nothing from the generators that requests without a seed of their own are sampled by."""
    own, numbers = random.getstate(), numpy.random.get_state()
    devices = [] if current_platform.is_cpu() else [torch.accelerator.current_device_index()]
    with torch.random.fork_rng(devices):
        yield
    random.setstate(own)
    numpy.random.set_state(numbers)


def free_bytes() -> int:
    """Memory that this rank can still allocate on its device. On CPU the ranks share the machine's."""
    if current_platform.is_cpu():
        return int(psutil.virtual_memory().available // parallel_state.get_tp_group().world_size)
    free, _ = torch.cuda.mem_get_info()
    return int(free + torch.cuda.memory_reserved() - torch.cuda.memory_allocated())


def kept_at_start(worker: Any) -> int:
    """Of the memory that is free as `worker` starts, what vLLM takes for nothing (--gpu-memory-utilization), or for a
    KV cache of a given size (--kv-cache-memory-bytes)."""
    if given := worker.cache_config.kv_cache_memory_bytes:
        return int(given)
    if not hasattr(worker, "init_snapshot"):  # on CPU
        return 0
    return max(int(worker.init_snapshot.free_memory - worker.requested_memory), 0)


def step_bytes(worker: Any) -> int:
    """What vLLM found that a step allocates for its time, 0 where it did not look."""
    if not hasattr(worker, "peak_activation_memory"):
        return 0
    graphs = worker.cudagraph_memory_estimate if envs.VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS else 0
    return int(worker.peak_activation_memory - graphs)


def release_memory() -> None:
    """Give back what the caching allocator holds without using it, so that it can become KV cache."""
    gc.collect()
    if not current_platform.is_cpu():
        torch.accelerator.empty_cache()
