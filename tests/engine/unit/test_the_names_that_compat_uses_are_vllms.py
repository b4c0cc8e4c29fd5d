"""No type checker follows compat into vLLM. So what it uses of it is looked up in the installed one: what it imports,
what it asks an instance for, and the keywords that it calls with.

What a name in compat stands for is written below. One that is not, and is asked for what no tensor or dict has, fails.
"""

import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import shift_engine
import torch
from fastapi import APIRouter, FastAPI
from prometheus_client import CollectorRegistry
from shift_engine.board import Board
from shift_engine.compat.step_graphs import Switch
from shift_engine.degree import Degree
from shift_engine.worker import ShiftWorker
from starlette.routing import Mount
from uses_of_vllm import CALL, Use, found, imports_in, names_of, set_on_self, takes, uses_in
from vllm import AsyncEngineArgs
from vllm import config as of
from vllm.compilation import decorators
from vllm.config.model_arch import ModelArchitectureConfig
from vllm.config.offload import PrefetchOffloadConfig, UVAOffloadConfig
from vllm.distributed.parallel_state import GroupCoordinator
from vllm.entrypoints.cli import serve as serving
from vllm.entrypoints.launchers.cli_args import FrontendArgs
from vllm.model_executor.layers import linear
from vllm.model_executor.layers.attention import Attention
from vllm.model_executor.layers.fused_moe import config as of_experts
from vllm.model_executor.layers.fused_moe.runner.moe_runner import MoERunner
from vllm.model_executor.layers.quantization.base_config import QuantizationConfig, QuantizeMethodBase
from vllm.model_executor.layers.quantization.compressed_tensors import compressed_tensors
from vllm.model_executor.layers.quantization.compressed_tensors.schemes import CompressedTensorsW8A8Fp8
from vllm.model_executor.layers.vocab_parallel_embedding import VocabParallelEmbedding
from vllm.model_executor.model_loader import utils as loading
from vllm.model_executor.models.llama import LlamaMLP
from vllm.model_executor.models.mixtral import MixtralMoE
from vllm.utils.argparse_utils import FlexibleArgumentParser
from vllm.utils.mem_utils import MemorySnapshot
from vllm.v1.attention.backends.flash_attn import FlashAttentionMetadataBuilder
from vllm.v1.attention.backends.triton_attn import TritonAttentionMetadataBuilder
from vllm.v1.core.sched.output import CachedRequestData, SchedulerOutput
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.executor.multiproc_executor import MultiprocExecutor
from vllm.v1.kv_cache_interface import KVCacheConfig, KVCacheGroupSpec
from vllm.v1.utils import CpuGpuBuffer
from vllm.v1.worker.cpu_model_runner import CPUModelRunner
from vllm.v1.worker.cpu_worker import CPUWorker
from vllm.v1.worker.gpu import cudagraph_utils as graphs
from vllm.v1.worker.gpu.input_batch import InputBatch, InputBuffers
from vllm.v1.worker.gpu.kv_connector import KVConnector
from vllm.v1.worker.gpu.model_runner import ExecuteModelState, GPUModelRunner
from vllm.v1.worker.gpu.model_states.default import DefaultModelState
from vllm.v1.worker.gpu.sample.prompt_logprob import PromptLogprobsWorker
from vllm.v1.worker.gpu.spec_decode.target_dependent_ar.speculator import TargetDependentARSpeculator
from vllm.v1.worker.gpu_worker import Worker
from vllm.v1.worker.utils import AttentionGroup

# By the last name of an expression: "group()" of `parallel_state.group(1)`. Where it stands for something else in one
# module or one function, that is before it. A module: what its source asks for, of whatever.
STANDS_FOR: dict[str, tuple[type | ModuleType, ...]] = {
    "vllm_config": (of.VllmConfig,),
    "attention_config": (of.AttentionConfig,),
    "cache_config": (of.CacheConfig,),
    "compilation_config": (of.CompilationConfig,),
    "cudagraph_mode": (of.CUDAGraphMode,),
    "kernel_config": (of.KernelConfig,),
    "model_arch_config": (ModelArchitectureConfig,),
    "model_config": (of.ModelConfig,),
    "offload_config": (of.OffloadConfig,),
    "parallel_config": (of.ParallelConfig,),
    "pass_config": (of.PassConfig,),
    "prefetch": (PrefetchOffloadConfig,),
    "quant_config": (QuantizationConfig,),
    "scheduler_config": (of.SchedulerConfig,),
    "speculative": (of.SpeculativeConfig,),
    "uva": (UVAOffloadConfig,),
    "runner": (GPUModelRunner,),
    "degree": (Degree,),
    "logger": (logging.Logger,),
    # api_process
    "engine": (AsyncLLM,),
    # attention
    "attention.layer": (Attention,),
    # collectives, agreement, memory
    "get_tp_group()": (GroupCoordinator,),
    "group": (GroupCoordinator,),
    "_replica()": (GroupCoordinator,),
    "sequence": (GroupCoordinator,),
    "tensor": (GroupCoordinator,),
    "world": (GroupCoordinator,),
    # compilation
    "compilation.config": (of.CompilationConfig,),
    "compilation.host": (of.CompilationConfig,),
    # configuration
    "configuration.compilation": (of.CompilationConfig,),
    "configuration.model": (of.ModelConfig,),
    "configuration.parallel": (of.ParallelConfig,),
    # dummy_steps
    "dummy_steps._step_of_v1.runner": (CPUModelRunner,),
    "dummy_steps._step_of_v1.input_ids": (CpuGpuBuffer,),
    "dummy_steps.group": (KVCacheGroupSpec,),
    "dummy_steps.last": (SchedulerOutput,),
    "batch": (InputBatch,),
    "begin": (SchedulerOutput,),
    "cache": (KVCacheConfig,),
    "end": (SchedulerOutput,),
    "execute_model_state": (ExecuteModelState,),
    "input_buffers": (InputBuffers,),
    "kv_connector": (KVConnector,),
    "model_state": (DefaultModelState,),
    "output": (SchedulerOutput,),
    "scheduled_cached_reqs": (CachedRequestData,),
    "step": (SchedulerOutput,),
    # experts
    "experts.config": (of_experts.FusedMoEConfig,),
    "experts.runner": (MoERunner,),
    "block": (MixtralMoE,),
    "moe_config": (of_experts.FusedMoEConfig,),
    "moe_parallel_config": (of_experts.FusedMoEParallelConfig,),
    "twin": (MixtralMoE,),
    # follower
    "executor": (MultiprocExecutor,),
    "from_cli_args()": (AsyncEngineArgs,),
    # kv_connectors
    "kv_connectors.works_by_layer.transfer": (of.KVTransferConfig,),
    # layers
    "layers.config": (of.VllmConfig,),
    "layers.host": (torch.nn.Module, loading),
    "layers.layer": (linear.MergedColumnParallelLinear, VocabParallelEmbedding, compressed_tensors),
    "initialize_model()": (torch.nn.Module,),
    "layers.twin": (torch.Tensor,),
    "method": (QuantizeMethodBase,),
    "module": (linear.LinearBase,),
    "of_host": (linear.MergedColumnParallelLinear,),
    "parent": (LlamaMLP,),
    "scheme": (CompressedTensorsW8A8Fp8,),
    # logits_rows
    "logits_rows.runner": (GPUModelRunner, CPUModelRunner),
    "logits_rows._runner": (GPUModelRunner, CPUModelRunner),
    "prompts": (PromptLogprobsWorker,),
    # memory
    "init_snapshot": (MemorySnapshot,),
    "memory.config": (of.VllmConfig,),
    "memory.model": (of.ModelConfig,),
    "model_runner": (GPUModelRunner,),
    "worker": (Worker,),
    # models
    "models.config": (of.VllmConfig,),
    "models.is_compiled_at_the_top.model": (decorators,),
    # server
    "app": (FastAPI,),
    "args": (AsyncEngineArgs, FrontendArgs, serving),
    "board": (Board,),
    "parser": (FlexibleArgumentParser,),
    "registry": (CollectorRegistry,),
    "route": (Mount,),
    "server.router": (APIRouter,),
    # step_graphs
    "step_graphs.config": (of.VllmConfig,),
    "step_graphs.group": (AttentionGroup,),
    "_own[]": (graphs.ModelCudaGraphManager,),
    "_runner": (GPUModelRunner,),
    "step_graphs.StepGraphs._dispatch.own": (graphs.ModelCudaGraphManager,),
    "builder": (FlashAttentionMetadataBuilder, TritonAttentionMetadataBuilder),
    "drafts": (graphs.CudaGraphManager,),
    "found": (graphs.BatchExecutionDescriptor,),
    "manager": (graphs.ModelCudaGraphManager,),
    "speculator": (TargetDependentARSpeculator,),
    "_switch": (Switch,),
}
# What our own attributes on vLLM's instances are called.
OURS = "_shift_"
# Of the one loop that sets attributes by computed names, test_the_overlay_is_compiled_apart asks for each.
COMPUTED = ("compilation.overlay_compilation: pass_config.()",)
UNIVERSAL = frozenset().union(
    *map(dir, (torch.Tensor, torch.nn.Module, torch.device, torch.Generator, dict, list, str, set)),
    *map(dir, (threading.Thread, threading.Timer, threading.Event)),
)

ENGINE = Path(shift_engine.__file__).parent
COMPAT = sorted((ENGINE / "compat").glob("*.py"))


def imported(path: Path) -> Iterator[tuple[str, Any]]:
    """What a module of compat imports: by the name that it has there, None for what is not vLLM's."""
    for module, name, here in imports_in(path):
        yield here, found(module, name) if module.partition(".")[0] == "vllm" else None


def problem(use: Use, imports: dict[str, Any]) -> str | None:
    """Why vLLM cannot be asked for this, or None."""
    known = imports.get(use.owner)
    if use.name == CALL:
        return None if known is None or takes(known, use.keywords) else f"{use}: it takes other keywords"
    if use.owner == "self" or use.name.startswith(("__", OURS)) or use.owner.startswith("__"):
        return None
    if known is not None:
        owners = (known,)
        has = hasattr(known, use.name)
    elif names := next((STANDS_FOR[scope] for scope in use.scopes if scope in STANDS_FOR), None):
        owners = names
        has = any(use.name in names_of(each) for each in names)
    elif use.root in imports or use.name in UNIVERSAL:
        return None
    else:
        return f"{use}: what it is of is not known here"
    if not has:
        return f"{use}: no {use.name} of {' or '.join(str(each) for each in owners)}"
    called = next((getattr(each, use.name) for each in owners if hasattr(each, use.name)), None)
    if use.keywords and callable(called) and not takes(called, use.keywords):
        return f"{use}: it takes other keywords"
    return None


@pytest.mark.parametrize("path", COMPAT, ids=lambda path: path.stem)
def test_each_name_is_there(path: Path) -> None:
    imports = dict(imported(path))
    problems = [problem(use, imports) for use in uses_in(path) if str(use) not in COMPUTED]
    assert "\n".join(each for each in problems if each) == ""


def test_what_each_name_stands_for_is_asked_for() -> None:
    uses = [use for path in COMPAT for use in uses_in(path)]
    used = {next((scope for scope in use.scopes if scope in STANDS_FOR), None) for use in uses}
    assert set(STANDS_FOR) - used == set()
    assert set(COMPUTED) - {str(use) for use in uses} == set()


@pytest.mark.parametrize("base", [CPUWorker, Worker])
def test_what_our_worker_has_from_vllms(base: type) -> None:
    """Of the two that it may extend, only one runs in these tests."""
    own = {*vars(ShiftWorker), *set_on_self(ShiftWorker)}
    asked = [use for use in uses_in(ENGINE / "worker.py") if use.owner in ("self", "super()")]
    inherited = {use.name for use in asked if use.owner == "super()" or use.name not in own}
    assert inherited >= {"model_runner", "execute_model"}
    assert inherited - names_of(base) == set()
