"""vLLM 0.32's model runners: the rows of a step's hidden states that are read after its forward pass.

Logits are computed of some rows alone, and the runner knows them before the forward (V2: v1/worker/gpu/model_runner.py,
`prepare_inputs`; V1: v1/worker/gpu_model_runner.py, `_prepare_inputs`). They are noted on their way, on the instance.
"""

from typing import Any

import numpy

from shift_engine.sampled_rows import Rows


class LogitsRows:
    """Called in the forward of a real step. -> the rows [k] that are read, ascending; None: any row may be."""

    def __init__(self, runner: Any, *, v2: bool, speculative: Any) -> None:
        """`speculative`: vLLM's speculative configuration, or None."""
        self._runner, self._v2 = runner, v2
        self._prepared: Any = None
        self._drafts_read_all = speculative is not None and speculative.method != "ngram"
        if v2:
            self._stock_prepare, runner.prepare_inputs = runner.prepare_inputs, self._prepare
        else:
            self._stock_prepare, runner._prepare_inputs = runner._prepare_inputs, self._prepare

    def __call__(self) -> Rows | None:
        prepared = self._prepared
        if prepared is None or self._drafts_read_all or self._prompts_are_read():
            return None
        return self._rows_of_batch(prepared) if self._v2 else prepared[0].numpy()

    def _prepare(self, *args: Any, **options: Any) -> Any:
        """Notes what the runner prepared; the rows are computed where a forward asks, and none does at 1 x P."""
        self._prepared = self._stock_prepare(*args, **options)
        return self._prepared

    def _rows_of_batch(self, batch: Any) -> Rows | None:
        if self._runner.adaptive_verification is not None:
            return None  # it moves rows between requests on the GPU
        return rows_sampled_from(batch.query_start_loc_np[: batch.num_reqs + 1], batch.cu_num_logits_np)

    def _prompts_are_read(self) -> bool:
        """Whether a request wants log-probabilities of its prompt."""
        if self._v2:
            prompts = self._runner.prompt_logprobs_worker
            return bool(prompts.in_progress_prompt_logprobs or prompts.token_id_scores)
        return bool(self._runner.num_prompt_logprobs)


def rows_sampled_from(query_starts: Rows, logits_starts: Rows) -> Rows:
    """Each [requests + 1], cumulated: a request's logits are those of its last rows
    (v1/worker/gpu/input_batch.py, `combine_sampled_and_draft_tokens`). -> [k], ascending."""
    counts = numpy.diff(logits_starts)
    first = query_starts[1:] - counts
    return numpy.repeat(first - logits_starts[:-1], counts).astype(numpy.int64) + numpy.arange(counts.sum())
