"""vLLM 0.32's V2 model runner: which CUDA graph a step replays, and graphs of whole steps with prefills.

A FULL graph replays kernels without calling the model's forward (v1/worker/gpu/cudagraph_utils.py), so a step of the
overlay must never match one of the host's. It replays a graph of its own: forward, all-to-alls and attention in one
launch. Launched kernel by kernel, a step of up to some thousand tokens takes as long as Python takes to launch it.

Stock vLLM has FULL graphs of decodes; where a request of the step is a prefill, it replays a graph per layer and
launches attention between them. Such steps of the host get whole graphs here too, of the sizes that stock vLLM has
graphs for. Then the time of a step depends on its tokens and its degree, as the schedule has it.
"""

import copy
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

from vllm.config.compilation import CUDAGraphMode

from shift_engine.compat.kv_connectors import works_by_layer
from shift_engine.degree import Degree

logger = logging.getLogger("vllm.shift_engine.graphs")


class Switch(Protocol):
    """forward.ForwardSwitch, as far as it is needed here."""

    @property
    def armed(self) -> Degree | None:
        """The degree of the overlay that the forwards now run, None for the host's own."""

    def arm(self, degree: Degree) -> None:
        """The forwards until `disarm` run at this degree."""

    def disarm(self) -> Any:
        """The step is over."""

    def replayed(self, pad_tokens: int) -> None:
        """A graph stood in for the forward, with so many rows of padding."""


HOST = None
"""What the switch says of a step of the host: nothing is armed."""


class StepGraphs:
    """Steers the runner's graph manager, on the instance. Made after memory is profiled, since that makes a new one."""

    def __init__(self, runner: Any, switch: Switch) -> None:
        self._runner, self._switch = runner, switch
        self._own: dict[Degree | None, Any] = {}  # vLLM's managers of the graphs made here, by what is armed
        self._tokens = 0  # of the step that was dispatched last
        self._replayed_tokens: int | None = None  # of the graph made here that it replays
        self._as_stock = True  # it runs as stock vLLM would run it
        self._uncut = False  # attention's metadata is built with its keys uncut
        manager = runner.cudagraph_manager
        if manager is None:
            return
        self._stock_dispatch, self._stock_run = manager.dispatch, manager.run_fullgraph
        manager.dispatch, manager.run_fullgraph = self._dispatch, self._run_fullgraph
        for builder in self._builders():
            builder.build = partial(self._build, builder.build)
        drafts = getattr(getattr(runner, "speculator", None), "prefill_cudagraph_manager", None)
        if drafts is not None:
            drafts.dispatch = partial(self._dispatch_drafts, drafts.dispatch)

    def capture(self, degree: Degree | None, sizes: Sequence[int]) -> str | None:
        """Collective. Capture steps of `degree` at these numbers of batched tokens; of HOST those with prefills.
        -> why they run without, or None.

        In the pool of the host's graphs, largest first, so that all share its memory.
        """
        if problem := self.problem:
            return problem
        from vllm.v1.worker.gpu.cudagraph_utils import ModelCudaGraphManager
        from vllm.v1.worker.workspace import lock_workspace, unlock_workspace

        runner = self._runner
        config = copy.copy(runner.vllm_config)
        config.compilation_config = copy.copy(config.compilation_config)
        config.compilation_config.cudagraph_capture_sizes = list(sizes)
        config.compilation_config.max_cudagraph_capture_size = max(sizes)
        manager = ModelCudaGraphManager(
            config, runner.device, CUDAGraphMode.FULL, decode_query_len=runner.decode_query_len
        )
        # The step before left what it needed: lengths, and how attention is cut. A graph is captured with its own.
        self._replayed_tokens = None
        self._split_attention(large=degree is not HOST)
        if degree is not HOST:
            self._switch.arm(degree)
        unlock_workspace()  # Marlin's kernels have one for each stream, and a capture has its own
        try:
            manager.capture(
                *(runner.model, runner.model_state, runner.input_buffers, None, runner.block_tables),
                *(runner.attn_groups, runner.kv_cache_config),
                progress_bar_desc=f"Capturing CUDA graphs of {degree or 'steps with prefills'}",
            )
        finally:
            lock_workspace()
            self._switch.disarm()
            self._split_attention(large=False)
        self._own[degree] = manager
        return None

    def drop(self, degree: Degree | None) -> None:
        """No step of `degree` replays a graph made here any more; those of HOST run as stock vLLM runs them."""
        self._own.pop(degree, None)

    @contextmanager
    def stock_host(self) -> Iterator[None]:
        """Within, steps of the host run as stock vLLM runs them."""
        own = self._own.pop(HOST, None)
        try:
            yield
        finally:
            if own is not None:
                self._own[HOST] = own

    @property
    def problem(self) -> str | None:
        """Why nothing can be captured here, or None."""
        from vllm.v1.attention.backend import AttentionCGSupport
        from vllm.v1.attention.backends.flash_attn import FlashAttentionMetadataBuilder
        from vllm.v1.attention.backends.triton_attn import TritonAttentionMetadataBuilder

        manager = self._runner.cudagraph_manager
        if manager is None or manager.cudagraph_mode == CUDAGraphMode.NONE:
            return "CUDA graphs are off"
        if not manager.cudagraph_mode.has_full_cudagraphs():
            return f"cudagraph_mode {manager.cudagraph_mode.name} replays no whole step"
        if connector := works_by_layer(self._runner.vllm_config):
            return f"{connector} loads or saves the KV cache layer by layer, which a graph of a step does not call"
        for builder in self._builders():
            known = isinstance(builder, FlashAttentionMetadataBuilder | TritonAttentionMetadataBuilder)
            if not known or builder._cudagraph_support != AttentionCGSupport.ALWAYS:
                return (
                    f"the attention backend ({type(builder).__name__}) cannot replay prefills of any shape; "
                    "FlashAttention 3 and Triton can"
                )
        return None

    def _dispatch(
        self,
        num_reqs: int,
        num_tokens: int,
        uniform_token_count: int | None,
        num_active_loras: int,
        max_query_len: int | None = None,
        num_ubatches: int = 1,
    ) -> Any:
        asked = (num_reqs, num_tokens, uniform_token_count, num_active_loras, max_query_len, num_ubatches)
        degree = self._switch.armed
        own = self._own.get(degree)
        found = self._stock_dispatch(*asked) if degree is HOST else None
        replays = False
        if own is not None and (found is None or found.cg_mode != CUDAGraphMode.FULL):
            whole = own.dispatch(*asked)
            if replays := whole in own.graphs:
                found = whole
        if found is None:
            found = _eager(num_reqs, num_tokens, num_active_loras, num_ubatches)
        self._tokens = num_tokens
        self._replayed_tokens = found.num_tokens if replays else None
        self._as_stock = degree is HOST and not replays
        self._split_attention(large=replays and degree is not HOST)
        return found

    def _dispatch_drafts(
        self,
        stock: Callable[..., Any],
        num_reqs: int,
        num_tokens: int,
        uniform_token_count: int | None,
        **options: Any,
    ) -> Any:
        """Which graph EAGLE's first draft replays after the step that was dispatched last.

        It reads attention's metadata of that step. Its FULL graphs are for decodes, and read what stock vLLM has laid
        out for as many requests as its own graph of decodes had. After any other step it launches its attention.
        """
        if self._as_stock:
            return stock(num_reqs, num_tokens, uniform_token_count, **options)
        found = stock(num_reqs, num_tokens, None, **options | {"max_query_len": None})
        if found.cg_mode != CUDAGraphMode.FULL:
            return found
        return _eager(num_reqs, num_tokens, options.get("num_active_loras", 0), options.get("num_ubatches", 1))

    def _run_fullgraph(self, found: Any) -> Any:
        if self._replayed_tokens is None:
            return self._stock_run(found)
        degree = self._switch.armed
        if degree is not HOST:
            self._switch.replayed(self._replayed_tokens - self._tokens)
        return self._own[degree].run_fullgraph(found)

    def _build(self, stock: Callable[..., Any], common_prefix_len: int, common_attn_metadata: Any, **more: Any) -> Any:
        """Attention's metadata of a step, with the lengths that the graph it replays was captured with.

        FlashAttention 3 lays out its schedule by them: for a longest query of 1 and heads of up to 64 it drops the
        causal mask, and with it an array (hopper/flash_api.cpp). A graph that was captured for chunks of prefills would
        read such a schedule at the wrong places. Stock vLLM's decodes have graphs of their own.
        """
        if self._replayed_tokens is not None:
            longest = self._runner.model_state.max_model_len  # as captured; the runner's own is what fits the KV cache
            common_attn_metadata = replace(
                common_attn_metadata, max_query_len=self._replayed_tokens, max_seq_len=longest
            )
        return stock(common_prefix_len, common_attn_metadata, **more)

    def _split_attention(self, *, large: bool) -> None:
        """How FlashAttention cuts the keys of the step whose metadata is built next.

        A graph bakes in the buffers of the cuts. vLLM makes up to 32, but only for as many tokens as the host's graphs
        have, since the buffers grow with both. A step of an overlay has rows enough to fill a GPU uncut.
        """
        if large == self._uncut:
            return
        self._uncut = large
        for builder in self._builders():
            if not hasattr(builder, "max_num_splits"):
                continue  # Triton's kernel for prefills cuts nothing
            if large:
                builder.__dict__.setdefault("_shift_stock_splits", (builder.max_num_splits, builder.max_cudagraph_size))
                builder.max_num_splits, builder.max_cudagraph_size = 1, self._runner.max_num_tokens
            elif stock := builder.__dict__.get("_shift_stock_splits"):
                builder.max_num_splits, builder.max_cudagraph_size = stock

    def _builders(self) -> list[Any]:
        groups = self._runner.attn_groups
        return [builder for part in groups for group in part for builder in group.metadata_builders]


def _eager(num_reqs: int, num_tokens: int, num_active_loras: int, num_ubatches: int) -> Any:
    from vllm.v1.worker.gpu.cudagraph_utils import BatchExecutionDescriptor

    return BatchExecutionDescriptor(
        cg_mode=CUDAGraphMode.NONE,
        num_tokens=num_tokens,
        num_reqs=num_reqs,
        num_active_loras=num_active_loras,
        num_ubatches=num_ubatches,
    )
