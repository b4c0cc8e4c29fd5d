"""vLLM 0.32's V2 model runner, the default on GPUs: dummy steps."""

from typing import Any

import torch


def dummy_step(runner: Any, tokens: int) -> torch.Tensor:
    """One forward over `tokens` rows, with the graphs that serving would replay. -> hidden states [n, d].

    Up to max_num_seqs rows are decodes, more are equal prefill chunks of so many requests. It writes nothing into the
    KV cache: a dummy run's slots are all padding.
    """
    hidden, _ = runner._dummy_run(tokens, skip_eplb=True)
    return hidden[:tokens]


def prefill_step(runner: Any, tokens: int, *, last_alone: bool = False) -> torch.Tensor:
    """One prefill of `tokens` random token ids, by the scheduler's own door. -> hidden states [n, d].

    With `last_alone` the last token comes in a step of its own, which is shaped as a decode is.

    A dummy run reads an empty cache, so its attention gives zeros whatever the heads; this one writes keys and values
    and reads them back. Only before serving: it takes the first blocks of the KV cache, as vLLM's own warm-up does
    (vllm/v1/worker/gpu/warmup.py).
    """
    from vllm import SamplingParams
    from vllm.v1.core.sched.output import CachedRequestData, NewRequestData, SchedulerOutput
    from vllm.v1.worker.gpu.warmup import _warmup_block_counter

    name = "_shift_check_"
    seed = torch.Generator().manual_seed(tokens)
    ids = torch.randint(0, runner.vocab_size, (tokens,), generator=seed).tolist()
    blocks, first = [], 1  # block 0 is vLLM's null block
    count = _warmup_block_counter(runner)
    for group in runner.kv_cache_config.kv_cache_groups:
        wanted = count(tokens, group.kv_cache_spec)
        blocks.append(list(range(first, first + wanted)))
        first += wanted
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
    steps = [_step_of(begin, name, tokens - last_alone)]
    if last_alone:
        last = SchedulerOutput.make_empty()
        last.num_spec_tokens_to_schedule = runner.num_speculative_steps
        last.scheduled_cached_reqs = CachedRequestData.make_empty()
        last.scheduled_cached_reqs.req_ids = [name]
        last.scheduled_cached_reqs.num_computed_tokens = [tokens - 1]
        last.scheduled_cached_reqs.num_output_tokens = [0]
        last.scheduled_cached_reqs.new_block_ids = [None]
        steps.append(_step_of(last, name, 1))
    end = SchedulerOutput.make_empty()
    end.finished_req_ids = {name}
    runner.kv_connector.set_disabled(True)
    try:
        hidden = [_hidden_states(runner, step) for step in steps]
        runner.execute_model(end)
    finally:
        runner.kv_connector.set_disabled(False)
    return torch.cat(hidden)


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
