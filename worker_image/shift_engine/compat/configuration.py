"""vLLM 0.32's configuration: what the overlay cannot run beside, and what it says of steps."""

from typing import Any

from vllm import envs
from vllm.config import CompilationMode, CUDAGraphMode
from vllm.platforms import current_platform

from shift_engine.degree import Degree

# Its layers have their test in the overlay. They compute each row alone, whatever rows stand beside it.
KNOWN_QUANTISATION = ("compressed-tensors",)


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


def heads_of(vllm_config: Any) -> tuple[int, int]:
    """(query heads, KV heads) of the whole model."""
    model = vllm_config.model_config
    return int(model.model_arch_config.total_num_attention_heads), int(model.get_total_num_kv_heads())


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
