"""A FULL CUDA graph replays the host's kernels whatever `forward` is, so a step of an overlay must not match one.
A step of the host with prefills replays one graph where stock vLLM replays one a layer."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from shift_engine.compat.step_graphs import HOST, StepGraphs
from shift_engine.degree import Degree
from vllm.config.compilation import CUDAGraphMode
from vllm.v1.worker.gpu.cudagraph_utils import BatchExecutionDescriptor, CudaGraphManager
from vllm.v1.worker.workspace import (
    current_workspace_manager,
    init_workspace_manager,
    lock_workspace,
    reset_workspace_manager,
)

DECODES = BatchExecutionDescriptor(CUDAGraphMode.FULL, num_tokens=8, num_reqs=8, uniform_token_count=1)
MIXED = BatchExecutionDescriptor(CUDAGraphMode.PIECEWISE, num_tokens=8, num_reqs=None)
OVERLAY = WITH_PREFILLS = BatchExecutionDescriptor(CUDAGraphMode.FULL, num_tokens=8, num_reqs=8)
SEQUENCE, BOTH = Degree(4, 1), Degree(2, 2)


class Switch:
    """What forward.ForwardSwitch tells of a step."""

    def __init__(self) -> None:
        self.armed: Degree | None = None
        self.padding: list[int] = []

    def arm(self, degree: Degree) -> None:
        self.armed = degree

    def disarm(self) -> None:
        self.armed = None

    def replayed(self, pad_tokens: int) -> None:
        self.padding.append(pad_tokens)


def captured(*descriptors: BatchExecutionDescriptor) -> CudaGraphManager:
    """vLLM's manager as it is after capture; replaying a graph does nothing."""
    manager = CudaGraphManager.__new__(CudaGraphManager)
    manager._lora_dispatch_map, manager._max_lora_case = {}, 0
    manager._graphs_captured = True
    manager._candidates = {(n, 0): list(descriptors) for n in range(1, 9)}
    manager.replayed = []
    manager.graphs = {
        each: SimpleNamespace(replay=lambda each=each: manager.replayed.append(each))
        for each in descriptors
        if each.cg_mode == CUDAGraphMode.FULL
    }
    return manager


@dataclass
class Lengths:
    """What vLLM's CommonAttentionMetadata says of the longest request of a step."""

    max_query_len: int
    max_seq_len: int


@pytest.fixture
def builder() -> SimpleNamespace:
    return SimpleNamespace(
        max_num_splits=32,
        max_cudagraph_size=512,
        build=lambda common_prefix_len, common_attn_metadata: common_attn_metadata,
    )


@pytest.fixture
def switch() -> Switch:
    return Switch()


@pytest.fixture
def runner(builder: SimpleNamespace) -> Any:
    return SimpleNamespace(
        cudagraph_manager=captured(DECODES, MIXED),
        attn_groups=[[SimpleNamespace(metadata_builders=[builder])]],
        max_num_tokens=8192,
        model_state=SimpleNamespace(max_model_len=4096),
        vllm_config=SimpleNamespace(compilation_config=SimpleNamespace()),
        **dict.fromkeys(("device", "decode_query_len", "model", "input_buffers", "block_tables")),
        kv_cache_config=None,
    )


def test_an_overlay_without_graphs_runs_without_any(runner: Any, switch: Switch) -> None:
    StepGraphs(runner, switch)
    manager = runner.cudagraph_manager
    assert manager.dispatch(5, 5, 1, num_active_loras=0, max_query_len=1) == DECODES
    assert manager.dispatch(2, 7, None, num_active_loras=0, max_query_len=None) == MIXED
    switch.arm(SEQUENCE)
    eager = manager.dispatch(5, 5, 1, num_active_loras=0, max_query_len=1)
    assert (eager.cg_mode, eager.num_tokens, eager.num_reqs) == (CUDAGraphMode.NONE, 5, 5)  # and no padding
    switch.disarm()
    assert manager.dispatch(5, 5, 1, num_active_loras=0, max_query_len=1) == DECODES


def test_a_captured_overlay_replays_its_own_and_no_other_s(runner: Any, switch: Switch) -> None:
    graphs = StepGraphs(runner, switch)
    graphs._own[SEQUENCE] = captured(OVERLAY)  # capture() itself needs a GPU: tests/gpu
    manager = runner.cudagraph_manager
    switch.arm(SEQUENCE)
    found = manager.dispatch(5, 5, 1, num_active_loras=0, max_query_len=1)
    assert found == OVERLAY
    manager.run_fullgraph(found)
    assert switch.padding == [3]
    switch.arm(BOTH)
    assert manager.dispatch(5, 5, 1, num_active_loras=0, max_query_len=1).cg_mode == CUDAGraphMode.NONE
    switch.disarm()
    assert manager.dispatch(5, 5, 1, num_active_loras=0, max_query_len=1) == DECODES
    manager.run_fullgraph(DECODES)
    assert switch.padding == [3]


def test_attention_is_uncut_in_the_overlay_s_graphs_alone(
    runner: Any, switch: Switch, builder: SimpleNamespace
) -> None:
    graphs = StepGraphs(runner, switch)
    graphs._own[SEQUENCE] = captured(OVERLAY)
    manager = runner.cudagraph_manager
    seen = []
    for degree, tokens in ((None, 5), (SEQUENCE, 5), (SEQUENCE, 9), (SEQUENCE, 5), (BOTH, 5), (SEQUENCE, 5), (None, 5)):
        switch.armed = degree
        manager.dispatch(5, tokens, None, num_active_loras=0)
        seen.append((builder.max_num_splits, builder.max_cudagraph_size))
    stock, uncut = (32, 512), (1, 8192)
    assert seen == [stock, uncut, stock, uncut, stock, uncut, stock]


def test_a_replayed_graph_sees_the_lengths_that_it_was_captured_with(
    runner: Any, switch: Switch, builder: SimpleNamespace
) -> None:
    """Captured for a prefill, replayed for decodes: FlashAttention 3 lays out its schedule by the longest query."""
    graphs = StepGraphs(runner, switch)
    graphs._own[SEQUENCE] = captured(OVERLAY)
    manager = runner.cudagraph_manager
    seen = []
    for degree, tokens in ((None, 5), (SEQUENCE, 5), (SEQUENCE, 9), (BOTH, 5), (SEQUENCE, 5), (None, 5)):
        switch.armed = degree
        manager.dispatch(5, tokens, 1, num_active_loras=0, max_query_len=1)
        built = builder.build(0, Lengths(1, 700))
        seen.append((built.max_query_len, built.max_seq_len))
    own, captured_with = (1, 700), (8, 4096)
    assert seen == [own, captured_with, own, own, captured_with, own]


def test_drafts_after_a_step_of_an_overlay_replay_no_graph_for_decodes(runner: Any, switch: Switch) -> None:
    """EAGLE's first draft reads attention's metadata of the step, and a FULL graph of drafts wants a stock decode's."""
    drafts = captured(DECODES, MIXED)
    runner.speculator = SimpleNamespace(prefill_cudagraph_manager=drafts)
    graphs = StepGraphs(runner, switch)
    graphs._own[SEQUENCE] = captured(OVERLAY)
    seen = []
    for degree in (None, SEQUENCE, BOTH, None):
        switch.armed = degree
        runner.cudagraph_manager.dispatch(5, 5, 1, num_active_loras=0, max_query_len=1)
        seen.append(drafts.dispatch(5, 5, 1, num_active_loras=0, max_query_len=1))
    assert seen == [DECODES, MIXED, MIXED, DECODES]


def test_drafts_after_a_step_that_is_launched_replay_none_of_steps_with_prefills(runner: Any, switch: Switch) -> None:
    """With cudagraph_mode FULL there are such: they read what was laid out for a graph's padded requests."""
    drafts = captured(WITH_PREFILLS)
    runner.speculator = SimpleNamespace(prefill_cudagraph_manager=drafts)
    StepGraphs(runner, switch)
    switch.armed = SEQUENCE
    runner.cudagraph_manager.dispatch(2, 7, None, num_active_loras=0, max_query_len=6)
    found = drafts.dispatch(2, 7, None, num_active_loras=0, max_query_len=6)
    assert (found.cg_mode, found.num_tokens, found.num_reqs) == (CUDAGraphMode.NONE, 7, 2)


@pytest.mark.parametrize(("degree", "cuts"), [(HOST, 32), (BOTH, 1)])
@pytest.mark.parametrize("before", [HOST, SEQUENCE])
def test_graphs_are_captured_as_they_are_replayed_whatever_step_was_before(
    runner: Any,
    switch: Switch,
    builder: SimpleNamespace,
    degree: Degree | None,
    cuts: int,
    before: Degree | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At start a degree is captured, then checked, then the next one is captured: FlashAttention computes as many rows
    of a request as the longest query has."""
    seen = []

    class Manager:
        """vLLM's, whose capture has attention's metadata built for each size."""

        def __init__(self, config: Any, *_: Any, **__: Any) -> None:
            self._sizes = config.compilation_config.cudagraph_capture_sizes

        def capture(self, *_: Any, **__: Any) -> None:
            current_workspace_manager().get_persistent_resource("Marlin's locks for the stream of this capture", object)
            seen.extend((builder.build(0, Lengths(n, 4096)).max_query_len, builder.max_num_splits) for n in self._sizes)

    monkeypatch.setattr("vllm.v1.worker.gpu.cudagraph_utils.ModelCudaGraphManager", Manager)
    monkeypatch.setattr(StepGraphs, "problem", None)
    init_workspace_manager(torch.device("cpu"))
    lock_workspace()  # as it is after vLLM's own captures
    graphs = StepGraphs(runner, switch)
    graphs._own[SEQUENCE] = captured(OVERLAY)
    switch.armed = before
    runner.cudagraph_manager.dispatch(5, 5, 1, num_active_loras=0, max_query_len=1)
    switch.disarm()
    assert graphs.capture(degree, (64, 128)) is None
    assert seen == [(64, cuts), (128, cuts)]
    assert current_workspace_manager().is_locked()
    reset_workspace_manager()


def test_an_engine_without_graphs_is_left_alone(switch: Switch) -> None:
    graphs = StepGraphs(SimpleNamespace(cudagraph_manager=None), switch)
    assert graphs.capture(SEQUENCE, (64,)) == "CUDA graphs are off"


def test_a_step_of_the_host_with_prefills_replays_one_graph_and_decodes_stock_s(
    runner: Any, switch: Switch, builder: SimpleNamespace
) -> None:
    graphs = StepGraphs(runner, switch)
    own = graphs._own[HOST] = captured(WITH_PREFILLS)
    manager = runner.cudagraph_manager
    found = manager.dispatch(2, 7, None, num_active_loras=0, max_query_len=6)
    assert found == WITH_PREFILLS
    assert (builder.max_num_splits, builder.max_cudagraph_size) == (32, 512)  # cut as in stock vLLM's own graphs
    assert builder.build(0, Lengths(6, 700)).max_query_len == 8
    manager.run_fullgraph(found)
    assert (own.replayed, manager.replayed, switch.padding) == ([WITH_PREFILLS], [], [])  # padding is the overlays'
    found = manager.dispatch(5, 5, 1, num_active_loras=0, max_query_len=1)
    assert found == DECODES
    assert builder.build(0, Lengths(1, 700)).max_query_len == 1
    manager.run_fullgraph(found)
    assert manager.replayed == [DECODES]


def test_the_host_s_graphs_are_no_overlay_s(runner: Any, switch: Switch) -> None:
    graphs = StepGraphs(runner, switch)
    graphs._own[HOST] = captured(WITH_PREFILLS)
    switch.arm(SEQUENCE)
    found = runner.cudagraph_manager.dispatch(2, 7, None, num_active_loras=0, max_query_len=6)
    assert found.cg_mode == CUDAGraphMode.NONE


def test_larger_steps_of_the_host_run_as_stock_vllm_s(runner: Any, switch: Switch) -> None:
    graphs = StepGraphs(runner, switch)
    graphs._own[HOST] = captured(WITH_PREFILLS)
    manager = runner.cudagraph_manager
    assert manager.dispatch(2, 9, None, num_active_loras=0, max_query_len=8).cg_mode == CUDAGraphMode.NONE


@pytest.mark.parametrize("for_good", [False, True])
def test_the_host_s_graphs_can_be_left_out(runner: Any, switch: Switch, for_good: bool) -> None:
    graphs = StepGraphs(runner, switch)
    graphs._own[HOST] = captured(WITH_PREFILLS)
    manager = runner.cudagraph_manager
    with graphs.stock_host():
        assert manager.dispatch(2, 7, None, num_active_loras=0, max_query_len=6) == MIXED
    if for_good:
        graphs.drop(HOST)
    found = manager.dispatch(2, 7, None, num_active_loras=0, max_query_len=6)
    assert found == (MIXED if for_good else WITH_PREFILLS)
