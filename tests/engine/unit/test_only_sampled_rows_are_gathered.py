"""After a step of the overlay the ranks send each other the rows that are sampled from, all ranks in one process."""

from itertools import combinations
from types import SimpleNamespace
from typing import Any

import numpy
import pytest
import torch
from shift_engine.compat.logits_rows import LogitsRows, rows_sampled_from
from shift_engine.overlay import gather_blocks
from shift_engine.sampled_rows import blocks_of


@pytest.mark.parametrize("sequence", [2, 4])
@pytest.mark.parametrize("tokens", [1, 2, 5, 7, 8])
def test_each_sampled_row_arrives_from_the_rank_that_has_it(
    sequence: int, tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every choice of rows, of every number."""
    own_rows = -(-tokens // sequence)
    step = torch.arange(1.0, own_rows * sequence + 1).outer(torch.tensor([1.0, 0.5]))
    for count in range(1, tokens + 1):
        for chosen in combinations(range(tokens), count):
            rows = numpy.array(chosen)
            everyones = [blocks_of(rows, own_rows, rank, sequence) for rank in range(sequence)]
            most = max(sum(row // own_rows == rank for row in chosen) for rank in range(sequence))
            if most == own_rows:
                assert everyones == [None] * sequence
                continue
            shards = step.split(own_rows)
            gathered = torch.cat([shard[blocks.send] for shard, blocks in zip(shards, everyones, strict=True)])
            assert len(gathered) == sequence * most
            monkeypatch.setattr(
                "shift_engine.compat.collectives.all_gather_rows", lambda own, group, all_=gathered: all_
            )
            for shard, blocks in zip(shards, everyones, strict=True):
                found = gather_blocks(shard, blocks, tokens, None)
                assert torch.equal(found[rows], step[rows])
                assert found.shape == (tokens, 2)


@pytest.mark.parametrize(
    ("scheduled", "logits", "rows"),
    [
        ([5, 1, 3], [1, 1, 1], [4, 5, 8]),
        ([4, 4, 9], [4, 3, 1], [0, 1, 2, 3, 5, 6, 7, 16]),  # drafts are checked in one step
        ([6], [1], [5]),
    ],
)
def test_a_requests_logits_are_those_of_its_last_rows(scheduled: list[int], logits: list[int], rows: list[int]) -> None:
    starts, logits_starts = (numpy.cumsum([0, *counts], dtype=numpy.int32) for counts in (scheduled, logits))
    assert rows_sampled_from(starts, logits_starts).tolist() == rows


class Runner:
    """The V2 model runner, as far as it is asked."""

    def __init__(self) -> None:
        self.adaptive_verification: Any = None
        self.prompt_logprobs_worker = SimpleNamespace(in_progress_prompt_logprobs={}, token_id_scores={})

    def prepare_inputs(self, scheduled: list[int]) -> Any:
        """A batch, its arrays padded as for a CUDA graph."""
        starts = numpy.cumsum([0, *scheduled, 0, 0], dtype=numpy.int32)
        logits = numpy.arange(len(scheduled) + 1, dtype=numpy.int32)
        return SimpleNamespace(num_reqs=len(scheduled), query_start_loc_np=starts, cu_num_logits_np=logits)


def test_the_batch_that_the_runner_prepares_says_which_rows_are_read() -> None:
    runner = Runner()
    rows = LogitsRows(runner, v2=True, speculative=None)
    assert rows() is None
    assert runner.prepare_inputs([5, 1, 3]).num_reqs == 3
    assert list(rows()) == [4, 5, 8]


def test_all_rows_are_read_where_something_else_than_sampling_reads_them() -> None:
    prompts = Runner()
    rows = LogitsRows(prompts, v2=True, speculative=None)
    prompts.prepare_inputs([5, 1])
    prompts.prompt_logprobs_worker.in_progress_prompt_logprobs["one"] = []
    assert rows() is None
    del prompts.prompt_logprobs_worker.in_progress_prompt_logprobs["one"]
    prompts.prompt_logprobs_worker.token_id_scores["one"] = object()
    assert rows() is None

    drafts = Runner()
    rows = LogitsRows(drafts, v2=True, speculative=SimpleNamespace(method="eagle"))
    drafts.prepare_inputs([5, 1])
    assert rows() is None

    moved = Runner()
    moved.adaptive_verification = object()
    rows = LogitsRows(moved, v2=True, speculative=SimpleNamespace(method="ngram"))
    moved.prepare_inputs([5, 1])
    assert rows() is None
