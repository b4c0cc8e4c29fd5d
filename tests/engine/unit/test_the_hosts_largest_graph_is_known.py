"""The largest step of decodes that vLLM replays as one graph, by its configuration; a larger one takes a jump."""

from types import SimpleNamespace

import pytest
from shift_engine.compat.v032 import largest_decode_graph
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
