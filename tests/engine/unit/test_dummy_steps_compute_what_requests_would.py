"""Calibration times dummy steps, and the self-check while serving compares them: their rows must be computed as rows of
requests are. vLLM's own are padding, for which a mixture of experts computes nothing."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from shift_engine.compat.v032 import dummy_step
from vllm.v1.worker.gpu.input_batch import InputBatch, InputBuffers
from vllm.v1.worker.gpu.model_runner import GPUModelRunner

VOCABULARY, MAX_TOKENS, MAX_REQUESTS = 500, 64, 8


class Runner:
    """A rank's V2 runner, as far as a dummy run goes: vLLM's own batch, and a forward that shows what it reads."""

    prepare_dummy_attn = GPUModelRunner.prepare_dummy_attn
    vocab_size, pcp_manager, device = VOCABULARY, None, torch.device("cpu")

    def __init__(self, graph: int = 0) -> None:
        """`graph`: a step is padded to so many rows, as for a CUDA graph."""
        self._graph = graph
        self.input_buffers = InputBuffers(MAX_REQUESTS, MAX_TOKENS, self.device)
        slots = torch.zeros(1, MAX_TOKENS, dtype=torch.int64)
        self.block_tables = SimpleNamespace(
            get_dummy_block_tables=lambda requests: (torch.zeros(requests, 4, dtype=torch.int32),),
            get_dummy_slot_mappings=lambda tokens: slots.fill_(-1)[:, :tokens],
        )
        self.slots = slots

    def _dummy_run(self, tokens: int, **options: Any) -> tuple[torch.Tensor, None]:
        rows = max(tokens, self._graph)
        batch = InputBatch.make_dummy(min(tokens, MAX_REQUESTS), rows, self.input_buffers)
        self.prepare_dummy_attn(batch)
        ids = self.input_buffers.input_ids[:rows].float()
        return torch.where(self.input_buffers.is_padding[:rows], torch.nan, ids)[:, None], None


@pytest.mark.parametrize(("tokens", "graph"), [(1, 0), (13, 0), (13, 16), (MAX_TOKENS, 0)])
def test_every_row_is_routed(tokens: int, graph: int) -> None:
    read = dummy_step(Runner(graph), tokens, v2=True)
    assert read.shape == (tokens, 1)
    assert not read.isnan().any()


def test_rows_are_tokens_of_many_kinds_and_the_same_on_every_rank() -> None:
    """Rows of one token would all choose the same experts."""
    one, other = Runner(), Runner()
    torch.manual_seed(1)
    first = dummy_step(one, 60, v2=True)
    torch.manual_seed(2)
    assert torch.equal(first, dummy_step(other, 60, v2=True))
    assert len(first.unique()) > 50
    assert first.max() < VOCABULARY


def test_nothing_is_written_into_the_kv_cache() -> None:
    runner = Runner()
    dummy_step(runner, 60, v2=True)
    assert (runner.slots == -1).all()


def test_other_dummy_runs_are_vllm_s_own_afterwards() -> None:
    """Those that keep other replicas company."""
    runner = Runner()
    dummy_step(runner, 60, v2=True)
    assert runner._dummy_run(60)[0].isnan().all()
