"""A FULL CUDA graph replays the host's kernels whatever `forward` is, so a step of the overlay must not match one."""

from types import SimpleNamespace

import pytest
from shift_engine.compat.v2_runner import steer_graphs
from vllm.config.compilation import CUDAGraphMode
from vllm.v1.worker.gpu.cudagraph_utils import BatchExecutionDescriptor, CudaGraphManager

DECODES = BatchExecutionDescriptor(CUDAGraphMode.FULL, num_tokens=8, num_reqs=8, uniform_token_count=1)
MIXED = BatchExecutionDescriptor(CUDAGraphMode.PIECEWISE, num_tokens=8, num_reqs=None)


@pytest.fixture
def manager() -> CudaGraphManager:
    """vLLM's manager as it is after capture, less the graphs themselves."""
    manager = CudaGraphManager.__new__(CudaGraphManager)
    manager._lora_dispatch_map, manager._max_lora_case = {}, 0
    manager._graphs_captured = True
    manager._candidates = {(n, 0): [DECODES, MIXED] for n in range(1, 9)}
    return manager


def test_only_steps_of_the_overlay_run_without_a_graph(manager: CudaGraphManager) -> None:
    armed = False
    steer_graphs(SimpleNamespace(cudagraph_manager=manager), lambda: armed)
    assert manager.dispatch(5, 5, 1, num_active_loras=0, max_query_len=1) == DECODES
    assert manager.dispatch(2, 7, None, num_active_loras=0, max_query_len=None) == MIXED
    armed = True
    eager = manager.dispatch(5, 5, 1, num_active_loras=0, max_query_len=1)
    assert (eager.cg_mode, eager.num_tokens, eager.num_reqs) == (CUDAGraphMode.NONE, 5, 5)  # and no padding
    armed = False
    assert manager.dispatch(5, 5, 1, num_active_loras=0, max_query_len=1) == DECODES


def test_an_engine_without_graphs_is_left_alone() -> None:
    steer_graphs(SimpleNamespace(cudagraph_manager=None), lambda: True)
