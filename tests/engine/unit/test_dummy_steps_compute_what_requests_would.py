"""Calibration times dummy steps, and the self-check while serving compares them: their rows must be computed as rows of
requests are. vLLM's own are padding, for which a mixture of experts computes nothing, and in the graph of a whole step
their attention is laid out as for a capture, where Triton's reads one key of each request."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from shift_engine.compat.dummy_steps import dummy_step, prefill_and_decode, v1_batch
from vllm.v1.kv_cache_interface import FullAttentionSpec
from vllm.v1.worker.gpu.input_batch import InputBatch, InputBuffers
from vllm.v1.worker.gpu.model_runner import GPUModelRunner

CACHE = FullAttentionSpec(block_size=16, num_kv_heads=1, head_size=8, dtype=torch.float32)
VOCABULARY, MAX_TOKENS, MAX_REQUESTS = 500, 64, 8


class Runner:
    """A rank's V2 runner, as far as a dummy run goes: vLLM's own batch, and a forward that shows what it reads."""

    prepare_dummy_attn = GPUModelRunner.prepare_dummy_attn
    vocab_size, pcp_manager, device = VOCABULARY, None, torch.device("cpu")

    def __init__(self, graph: int = 0, drafts: int = 0) -> None:
        """`graph`: a step is padded to so many rows, as for a CUDA graph; `drafts` of each request."""
        self._graph = graph
        self.input_buffers = InputBuffers(MAX_REQUESTS, MAX_TOKENS, self.device)
        slots = torch.zeros(1, MAX_TOKENS, dtype=torch.int64)
        self.block_tables = SimpleNamespace(
            get_dummy_block_tables=lambda requests: (torch.zeros(requests, 4, dtype=torch.int32),),
            get_dummy_slot_mappings=lambda tokens: slots.fill_(-1)[:, :tokens],
        )
        self.slots = slots
        self.connector_is_off = False
        self.kv_connector = SimpleNamespace(set_disabled=lambda off: setattr(self, "connector_is_off", off))
        self.fails = False
        self.kv_cache_config = SimpleNamespace(num_blocks=9, kv_cache_groups=[SimpleNamespace(kv_cache_spec=CACHE)] * 2)
        self.vllm_config = SimpleNamespace(num_lookahead_tokens=0)
        self.model_state = SimpleNamespace(prepare_attn=_prepare_attn)
        self.max_model_len, self.num_speculative_steps = 256, 0
        self.requests: dict[str, tuple[list[int], ...]] = {}
        self.max_num_reqs, self.decode_query_len = MAX_REQUESTS, 1 + drafts
        self.speculator = SimpleNamespace(propose=lambda: pytest.fail("drafts were made")) if drafts else None

    def _dummy_run(
        self, tokens: int, *, uniform_decode: bool = False, skip_eplb: bool = False
    ) -> tuple[torch.Tensor, None]:
        self.kv_connector.set_disabled(True)
        self._step()
        rows = max(tokens, self._graph)
        requests = tokens // self.decode_query_len if uniform_decode else min(tokens, MAX_REQUESTS)
        batch = InputBatch.make_dummy(requests, rows, self.input_buffers)
        self.requests_run = batch.num_reqs
        self.prepare_dummy_attn(batch)
        keys = self.model_state.prepare_attn(batch, for_capture=self._graph > 0)
        query_lens = batch.query_start_loc.diff()
        none = self.input_buffers.is_padding[:rows] | (keys < query_lens).repeat_interleave(query_lens)
        ids = self.input_buffers.input_ids[:rows].float()
        self.kv_connector.set_disabled(False)
        if self.speculator is not None:
            self.speculator.propose()
        return torch.where(none, torch.nan, ids)[:, None], None

    def execute_model(self, scheduled: Any) -> None:
        """Requests come and go with the scheduler's output, before the forward."""
        for name in scheduled.finished_req_ids:
            del self.requests[name]
        self.requests |= {new.req_id: new.block_ids for new in scheduled.scheduled_new_reqs}
        rows = scheduled.total_num_scheduled_tokens
        if rows:
            self._step()
        self.execute_model_state = SimpleNamespace(hidden_states=torch.ones(rows, 1))

    def sample_tokens(self, _: None) -> None:
        """Nothing reads them."""

    def _step(self) -> None:
        assert self.connector_is_off
        if self.fails:
            raise torch.OutOfMemoryError


def _prepare_attn(batch: Any, *, for_capture: bool = False) -> torch.Tensor:
    """Triton's. -> how many keys each request has."""
    return batch.seq_lens.fill_(1) if for_capture else batch.seq_lens


@pytest.mark.parametrize(("tokens", "graph"), [(1, 0), (13, 0), (13, 16), (MAX_TOKENS, 0)])
def test_every_row_is_routed_and_attends(tokens: int, graph: int) -> None:
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


RUNS: list[Callable[[Any], torch.Tensor]] = [
    lambda runner: dummy_step(runner, 60, v2=True),
    lambda runner: prefill_and_decode(runner, 60, lambda: None),
]


@pytest.mark.parametrize("run", RUNS, ids=["dummy run", "prefill and decode"])
def test_a_step_that_fails_leaves_nothing_behind(run: Callable[[Any], torch.Tensor]) -> None:
    """Else requests would wait for a KV connector that is off, or find one slot less."""
    runner = Runner(drafts=3)
    runner.fails, drafts = True, runner.speculator
    with pytest.raises(torch.OutOfMemoryError):
        run(runner)
    assert runner.connector_is_off is False
    assert runner.requests == {}
    assert runner.prepare_dummy_attn.__func__ is GPUModelRunner.prepare_dummy_attn
    assert runner.model_state.prepare_attn is _prepare_attn
    assert runner.speculator is drafts


def test_a_prefill_stays_within_the_kv_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two groups of layers with 16 tokens a block, nine blocks, of which the first is vLLM's null block."""
    runner, blocks = Runner(), []
    monkeypatch.setattr(runner, "sample_tokens", lambda _: blocks.append(runner.requests["_shift_check_"]))
    assert len(prefill_and_decode(runner, 63, lambda: None)) == 64
    assert len(prefill_and_decode(runner, 64, lambda: None)) == 33
    of_prefill = blocks[::2]
    assert of_prefill == [([1, 2, 3, 4], [5, 6, 7, 8]), ([1, 2, 3], [4, 5, 6])]


def test_between_prefill_and_decode_the_degree_can_change(monkeypatch: pytest.MonkeyPatch) -> None:
    runner, said = Runner(), []
    monkeypatch.setattr(runner, "sample_tokens", lambda _: said.append(len(runner.execute_model_state.hidden_states)))
    prefill_and_decode(runner, 7, lambda: said.append("now"))
    assert said == [7, "now", 1]


@pytest.mark.parametrize(("drafts", "tokens", "requests"), [(0, 8, 8), (0, 16, 8), (3, 8, 2), (3, 32, 8), (3, 10, 8)])
def test_decodes_have_their_drafts_to_verify_and_make_none(drafts: int, tokens: int, requests: int) -> None:
    """As the clock of a step of requests has them, and in the graph that a decode replays."""
    runner = Runner(drafts=drafts)
    assert len(dummy_step(runner, tokens, v2=True)) == tokens
    assert runner.requests_run == requests


def test_no_request_of_v1_is_longer_than_its_block_table() -> None:
    """A step of 4,096 tokens, half decodes, has a chunk of 3,841, where a model of 256 has tables of 256."""
    assert v1_batch(1, requests=256, longest=256) == (1, {"uniform_decode": True})
    assert v1_batch(510, requests=256, longest=256) == (510, {"create_mixed_batch": True})
    assert v1_batch(512, requests=256, longest=256) == (512, {"profile_seq_lens": 2})
    assert v1_batch(4100, requests=256, longest=256) == (4096, {"profile_seq_lens": 16})


def test_nothing_is_written_into_the_kv_cache() -> None:
    runner = Runner()
    dummy_step(runner, 60, v2=True)
    assert (runner.slots == -1).all()


def test_other_dummy_runs_are_vllm_s_own_afterwards() -> None:
    """Those that keep other replicas company."""
    runner = Runner()
    dummy_step(runner, 60, v2=True)
    assert runner._dummy_run(60)[0].isnan().all()
