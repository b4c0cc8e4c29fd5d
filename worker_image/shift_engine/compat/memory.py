"""vLLM 0.32's account of a rank's memory: what is free, what it keeps, and what it finds that a step takes."""

import gc
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import psutil
import torch
from vllm import envs
from vllm.distributed import parallel_state
from vllm.platforms import current_platform

GRAPH_BYTES = 4 * 2**20
"""What a CUDA graph takes beside the activations that all of them share."""


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


def after_profile_run(runner: Any, more: Callable[[Callable[[], None]], None]) -> None:
    """Before memory is profiled: let `more` follow the profile run, on the instance. It gets stock vLLM's run, to make
    it again in another state; the highest peak counts."""
    stock = runner.profile_run

    def profile_run(**options: Any) -> None:
        stock(**options)
        more(partial(stock, **options))

    runner.profile_run = profile_run


def reserve_for_graphs(runner: Any, *, largest: int, graphs: int, largest_of_host: int = 0) -> None:
    """Before memory is profiled has ended, after a profile run of an overlay: leave room for so many graphs.

    They share one pool of activations, apart from those of eager steps: what the profile run took, in proportion to the
    `largest` number of batched tokens. In the host's graphs attention is cut, and its cuts are kept in fp32.
    """
    peak = torch.cuda.max_memory_allocated() - torch.cuda.memory_allocated()
    config, model = runner.vllm_config, runner.model_config
    cuts = config.attention_config.flash_attn_max_num_splits_for_cuda_graph
    heads = model.get_num_attention_heads(config.parallel_config)
    cut = cuts * heads * (model.get_head_size() + 1) * 4 * largest_of_host
    wanted = peak * largest // runner.max_num_tokens + cut + graphs * GRAPH_BYTES
    stock: Callable[[], int] = type(runner).profile_cudagraph_memory.__get__(runner)

    def profile_cudagraph_memory() -> int:
        host = int(stock())
        return host + wanted if host else 0  # 0: graphs are off

    runner.profile_cudagraph_memory = profile_cudagraph_memory


def step_bytes(worker: Any) -> int:
    """What vLLM found that a step allocates for its time, 0 where it did not look."""
    if not hasattr(worker, "peak_activation_memory"):
        return 0
    graphs = worker.cudagraph_memory_estimate if envs.VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS else 0
    return int(worker.peak_activation_memory - graphs)


def kv_cache_tensors(model_runner: Any) -> Iterator[torch.Tensor]:
    """The tensors of this rank's KV cache, none of a model without one. A layer that keeps a state has several."""
    for layer in getattr(model_runner, "kv_caches", ()):
        yield from layer if isinstance(layer, list | tuple) else (layer,)


def release() -> None:
    """Give back what the caching allocator holds without using it, so that it can become KV cache."""
    gc.collect()
    if not current_platform.is_cpu():
        torch.accelerator.empty_cache()
