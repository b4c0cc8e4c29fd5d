"""Dummy steps of vLLM 0.32's model runners, V1 on CPU and V2 on GPUs: forwards over tokens that nobody asked for."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import accumulate
from typing import Any

import torch


def dummy_step(runner: Any, tokens: int, *, v2: bool) -> torch.Tensor:
    """One forward over `tokens` rows of random token ids, the same on every rank. -> hidden states [n, d].

    It leaves the KV cache as it is: the slots of a dummy run are all -1.
    """
    return _step_of_v2(runner, tokens) if v2 else _step_of_v1(runner, tokens)


def _step_of_v1(runner: Any, tokens: int) -> torch.Tensor:
    """One forward over `tokens` rows, or as many of them as requests can fill. -> hidden states [n, d]."""
    tokens, shape = v1_batch(tokens, runner.scheduler_config.max_num_seqs, runner.max_model_len)
    runner.input_ids.gpu[:tokens].copy_(_random_ids(runner.model_config.get_vocab_size(), tokens))
    runner.positions[:tokens].copy_(torch.arange(tokens) % runner.max_model_len)
    hidden, _ = runner._dummy_run(tokens, force_attention=True, skip_eplb=True, **shape)
    runner.input_ids.gpu[:tokens].zero_()
    runner.positions[:tokens].zero_()
    return hidden


def v1_batch(tokens: int, requests: int, longest: int) -> tuple[int, dict[str, int]]:
    """Of a dummy run of the V1 runner that has at most so many requests: how many tokens it takes, and how.

    As a busy step has it, half decodes and half one prefill chunk. Where no request is that long, all are alike: beyond
    the longest, attention would look for a request's KV blocks behind the end of its table.
    """
    if tokens == 1:
        return 1, {"uniform_decode": True}
    chunk = tokens - min(requests - 1, tokens // 2)
    if chunk < longest:  # vLLM takes one token to be there before it
        return tokens, {"create_mixed_batch": True}
    each = tokens // requests
    return each * requests, {"profile_seq_lens": each}


def _step_of_v2(runner: Any, tokens: int) -> torch.Tensor:
    """One forward over `tokens` rows, with the graphs that serving would replay. -> hidden states [n, d].

    Up to max_num_seqs rows are decodes, and so are more where each request has drafts to verify; else they are equal
    prefill chunks of so many requests. It writes nothing into the KV cache: a dummy run's slots are all padding.
    """
    each = runner.decode_query_len  # rows of a decode: 1, and 1 more for each draft
    decodes = each > 1 and tokens % each == 0 and tokens <= runner.max_num_reqs * each
    with _rows_as_of_requests(runner):
        hidden, _ = runner._dummy_run(tokens, uniform_decode=decodes, skip_eplb=True)
    return hidden[:tokens]


@contextmanager
def _rows_as_of_requests(runner: Any) -> Iterator[None]:
    """Within, the rows of a dummy run are random tokens that somebody asked for.

    Its own are token 0 and marked as padding, since it keeps other replicas company (InputBatch.make_dummy): a mixture
    of experts computes nothing for them, and leaves what memory held before (fused_moe/router/fused_topk_router.py).

    And where it replays a graph of a whole step, its attention is laid out as for a capture: Triton's takes each
    request to be one token long (TritonAttentionMetadataBuilder), and a row before that token attends to nothing, which
    is 0 / 0. No drafts are made after it: the clock of a step of requests, too, ends with the forward.
    """
    stock = runner.prepare_dummy_attn  # called between the inputs and the forward
    stock_layout, speculator = runner.model_state.prepare_attn, runner.speculator
    ids = runner.__dict__.get("_shift_ids")
    if ids is None:
        buffer = runner.input_buffers.input_ids
        ids = runner._shift_ids = _random_ids(runner.vocab_size, buffer.shape[0]).to(buffer)

    def prepare(batch: Any, *options: Any) -> Any:
        batch.input_ids.copy_(ids[: batch.num_tokens])
        batch.is_padding.fill_(False)
        return stock(batch, *options)

    def lay_out(*inputs: Any, for_capture: bool = False, **more: Any) -> Any:
        return stock_layout(*inputs, **more)

    runner.prepare_dummy_attn, runner.model_state.prepare_attn, runner.speculator = prepare, lay_out, None
    try:
        yield
    finally:
        runner.prepare_dummy_attn, runner.model_state.prepare_attn, runner.speculator = stock, stock_layout, speculator
        runner.kv_connector.set_disabled(False)  # the dummy run leaves it so where it fails


def prefill_and_decode(runner: Any, tokens: int, before_decode: Callable[[], None]) -> torch.Tensor:
    """Two steps of one request, by the V2 runner's own door: a prefill of `tokens` random token ids, fewer where the KV
    cache is smaller, and one token more, shaped as a decode is. -> hidden states [n + 1, d].

    A dummy run reads an empty cache, so its attention gives zeros whatever the heads; this one writes keys and values
    and reads them back. Only before serving: it takes the first blocks of the KV cache, as vLLM's own warm-up does
    (vllm/v1/worker/gpu/warmup.py).
    """
    from vllm import SamplingParams
    from vllm.v1.core.sched.output import CachedRequestData, NewRequestData, SchedulerOutput
    from vllm.v1.worker.gpu.warmup import _warmup_block_counter

    name = "_shift_check_"
    cache, count = runner.kv_cache_config, _warmup_block_counter(runner)
    specs = [group.kv_cache_spec for group in cache.kv_cache_groups]
    while sum(wanted := [count(tokens + 1, spec) for spec in specs]) >= cache.num_blocks:
        tokens //= 2
    ids = _random_ids(runner.vocab_size, tokens + 1).tolist()
    ends = [1 + end for end in accumulate(wanted)]  # block 0 is vLLM's null block
    blocks = [list(range(end - each, end)) for end, each in zip(ends, wanted, strict=True)]
    begin = SchedulerOutput.make_empty()
    begin.num_spec_tokens_to_schedule = runner.num_speculative_steps
    begin.scheduled_new_reqs = [
        NewRequestData(
            req_id=name,
            prompt_token_ids=ids,
            mm_features=[],
            sampling_params=SamplingParams(max_tokens=2, temperature=0.0, watermarking=False),
            pooling_params=None,
            block_ids=tuple(blocks),
            num_computed_tokens=0,
            lora_request=None,
            prefill_token_ids=ids,
        )
    ]
    last = SchedulerOutput.make_empty()
    last.num_spec_tokens_to_schedule = runner.num_speculative_steps
    last.scheduled_cached_reqs = CachedRequestData.make_empty()
    last.scheduled_cached_reqs.req_ids = [name]
    last.scheduled_cached_reqs.num_computed_tokens = [tokens]
    last.scheduled_cached_reqs.num_output_tokens = [0]
    last.scheduled_cached_reqs.new_block_ids = [None]
    end = SchedulerOutput.make_empty()
    end.finished_req_ids = {name}
    runner.kv_connector.set_disabled(True)
    try:
        try:
            prefilled = _hidden_states(runner, _step_of(begin, name, tokens))
            before_decode()
            decoded = _hidden_states(runner, _step_of(last, name, 1))
        finally:
            runner.execute_model(end)
    finally:
        runner.kv_connector.set_disabled(False)
    return torch.cat([prefilled, decoded])


def _step_of(output: Any, name: str, tokens: int) -> Any:
    """The scheduler's output, completed with how many tokens of the one request it has."""
    output.num_scheduled_tokens = {name: tokens}
    output.total_num_scheduled_tokens = tokens
    return output


def _hidden_states(runner: Any, step: Any) -> torch.Tensor:
    """Run it. -> hidden states [n, d], of its own: a graph's output buffer is used again."""
    runner.execute_model(step)
    hidden = runner.execute_model_state.hidden_states[: step.total_num_scheduled_tokens].clone()
    runner.sample_tokens(None)
    return hidden


def _random_ids(vocabulary: int, count: int) -> torch.Tensor:
    """-> token ids [count], the same on every rank."""
    return torch.randint(0, vocabulary, (count,), generator=torch.Generator().manual_seed(count))
