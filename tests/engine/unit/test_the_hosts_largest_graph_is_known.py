"""The largest steps that vLLM replays as one graph, or as one a layer. A larger one takes a jump."""

from types import SimpleNamespace

import pytest
from shift_engine.compat.configuration import largest_decode_graph, largest_step_in_pieces
from vllm.config.compilation import CUDAGraphMode


@pytest.mark.parametrize(
    ("mode", "sequences", "drafts", "captured", "largest"),
    [
        (CUDAGraphMode.FULL_AND_PIECEWISE, 256, 0, 512, 256),
        (CUDAGraphMode.FULL_DECODE_ONLY, 1024, 0, 512, 512),
        (CUDAGraphMode.FULL, 64, 3, 512, 256),  # each request has a row more for each draft
        (CUDAGraphMode.PIECEWISE, 256, 0, 512, None),
        (CUDAGraphMode.NONE, 256, 0, 0, None),
    ],
)
def test_it_holds_as_many_decodes_as_are_scheduled_and_captured(
    mode: CUDAGraphMode, sequences: int, drafts: int, captured: int, largest: int | None
) -> None:
    config = SimpleNamespace(
        compilation_config=SimpleNamespace(cudagraph_mode=mode, max_cudagraph_capture_size=captured),
        scheduler_config=SimpleNamespace(max_num_seqs=sequences),
        uniform_decode_query_len=1 + drafts,
    )
    assert largest_decode_graph(config) == largest


@pytest.mark.parametrize(
    ("mode", "batched", "captured", "largest"),
    [
        (CUDAGraphMode.FULL_AND_PIECEWISE, 8192, 512, 512),
        (CUDAGraphMode.FULL_AND_PIECEWISE, 256, 512, 256),
        (CUDAGraphMode.FULL, 8192, 512, None),  # stock vLLM replays whole graphs there
        (CUDAGraphMode.FULL_DECODE_ONLY, 8192, 512, None),
        (CUDAGraphMode.PIECEWISE, 8192, 512, None),  # attention cannot be in a graph, or nobody wants it there
        (CUDAGraphMode.NONE, 8192, 0, None),
    ],
)
def test_whole_graphs_stand_in_for_those_of_layers(
    mode: CUDAGraphMode, batched: int, captured: int, largest: int | None
) -> None:
    config = SimpleNamespace(
        compilation_config=SimpleNamespace(cudagraph_mode=mode, max_cudagraph_capture_size=captured),
        scheduler_config=SimpleNamespace(max_num_batched_tokens=batched),
    )
    assert largest_step_in_pieces(config) == largest
