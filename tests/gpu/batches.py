"""What a session asks an engine, and how its answers are noted: batches of requests, greedy but for the kinds.

Needs tests/engine/matrix on PYTHONPATH; session.py sets it.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import kinds_of_request
from kinds_of_request import prompt
from shift_engine.capture_sizes import capture_sizes

AROUND, DECODES, KINDS = ", around each capture size", ", decodes of 1 to 16", ", every kind of request"
BATCHED_TOKENS = 512
LENGTHS = (1, 2, 7, 61, 130, 301, 500, 900)
OUTPUT_TOKENS = 24
# Stock vLLM's, few, as a dozen engines share a GPU while they start. With all of capture_sizes(1, 128) among them, a
# step of the shift engine's host has as many rows as stock vLLM's, and the kernel of experts chooses its tiles by that.
STOCK_GRAPHS = sorted({1, 2, 4, 8, 16, *capture_sizes(1, 128)})
# One row less, as many, and one more than each graph has of 1x2 and of 2x1, whose sizes include those of 4x1 and 8x1.
SIZES = sorted({*capture_sizes(1, STOCK_GRAPHS[-1]), *capture_sizes(2, BATCHED_TOKENS)})
LENGTHS_AROUND = [n for size in SIZES for n in (size - 1, size, size + 1)][:-1]
DECODES_AT_ONCE = range(1, 17)  # stock vLLM's graphs of decodes are for 1, 2, 4, 8 and 16
DECODED_TOKENS = 4
DECODE_PROMPT = 20  # tokens; so that the steps of prefills have rows for a graph of more than decodes
# A prompt's seed is its length, or its place among the decodes, but for these. So in fp32 each greedy token is ahead of
# the next likely one by LEAD of log-probability or more, in each tiny model, and TF32, which moves it by 0.002, turns
# none (test_no_two_tokens_of_a_gpu_session_are_level.py).
LEAD = 0.02
OTHER_SEEDS = {1: 2, 2: 8, 7: 13, 61: 86, 130: 135, 900: 934} | {97: 98, 128: 130, 191: 192, 320: 321, 448: 449}
LEVEL = {6, 9, 14, 28, 49, 51, 67, 81, 85, 88, 98, 101, 102, 106, 123, 127, 128, 131, 132, 133, 137, 138, 151}
DECODE_SEEDS = [seed for seed in range(sum(DECODES_AT_ONCE) + len(LEVEL)) if seed not in LEVEL]
KINDS_BLOCKS, KINDS_BLOCK = kinds_of_request.BLOCKS - 1, 32  # in which requests of all kinds preempt each other on CPU
# The batches by how a phase ends, and of each how many answers it has and how many tokens each of these.
ANSWERS = {
    "": (len(LENGTHS), OUTPUT_TOKENS),
    AROUND: (len(LENGTHS_AROUND), 2),
    DECODES: (sum(DECODES_AT_ONCE), DECODED_TOKENS),
    KINDS: (len(kinds_of_request.requests(speculation=False)) + 2, None),
}


def asked_in(phase: str) -> str:
    """Which of ANSWERS a phase asks for: "always, decodes of 1 to 16" -> ", decodes of 1 to 16"."""
    return next((ending for ending in (AROUND, DECODES, KINDS) if phase.endswith(ending)), "")


def ask(llm: Any, batch: str) -> dict[str, Any]:
    """-> `noted` of one of ANSWERS."""
    return {"": generate, AROUND: generate_around, DECODES: decode, KINDS: answer_all_kinds}[batch](llm)


def prompt_of(length: int) -> list[int]:
    """The one of LENGTHS or LENGTHS_AROUND that is so long."""
    return prompt(length, OTHER_SEEDS.get(length, length))


def generate(llm: Any, between_steps: Callable[[], None] | None = None) -> dict[str, Any]:
    """The prompts of LENGTHS at once."""
    engine, wanted = llm.llm_engine, greedy(OUTPUT_TOKENS)
    for i, length in enumerate(LENGTHS):
        engine.add_request(str(i), {"prompt_token_ids": prompt_of(length)}, wanted)
    outputs: dict[int, Any] = {}
    while engine.has_unfinished_requests():
        for output in engine.step():
            if output.finished:
                outputs[int(output.request_id.split("-")[0])] = output.outputs[0]
        if between_steps is not None:
            between_steps()
    return noted([outputs[i] for i in sorted(outputs)])


def generate_around(llm: Any) -> dict[str, Any]:
    """One prompt after the other, so that each is a step of its own length."""
    asked = [{"prompt_token_ids": prompt_of(length)} for length in LENGTHS_AROUND]
    return noted([llm.generate([each], greedy(2), use_tqdm=False)[0].outputs[0] for each in asked])


def decode(llm: Any) -> dict[str, Any]:
    """One request, then two at once, and so on: steps of as many decodes."""
    said: list[Any] = []
    for requests in DECODES_AT_ONCE:
        seeds = DECODE_SEEDS[len(said) : len(said) + requests]
        asked = [{"prompt_token_ids": prompt(DECODE_PROMPT, seed)} for seed in seeds]
        outputs = llm.generate(asked, greedy(DECODED_TOKENS), use_tqdm=False)
        said += [output.outputs[0] for output in outputs]
    return noted(said)


def answer_all_kinds(llm: Any) -> dict[str, Any]:
    """The batch of the CPU tests, in a cache as small as theirs. -> also `kinds`, `answers` by kind, and `counts`."""
    with small_cache(llm, KINDS_BLOCKS):
        found = kinds_of_request.answer(llm)
    answers = found["answers"]
    return found | {
        "kinds": list(answers),
        "tokens": [each["tokens"] for each in answers.values()],
        "logprobs": [
            [of[str(token)] for of, token in zip(each["logprobs"], each["tokens"], strict=True)]
            for each in answers.values()
        ],
    }


@contextmanager
def small_cache(llm: Any, blocks: int) -> Iterator[None]:
    """Within, the KV cache has so many blocks: the others are held, as if by requests."""
    pool = core_of(llm).scheduler.kv_cache_manager.block_pool
    held = pool.get_new_blocks(pool.get_num_free_blocks() - blocks)
    try:
        yield
    finally:
        pool.free_blocks(held)


@contextmanager
def counted(llm: Any, outcome: dict[str, Any]) -> Iterator[None]:
    """Notes in `outcome` how many steps the engine makes within, and what vLLM counts of requests and drafts."""
    scheduler = core_of(llm).scheduler
    schedule, before, steps = scheduler.schedule, kinds_of_request.counts(llm), 0

    def noted_schedule(*args: Any) -> Any:
        nonlocal steps
        output = schedule(*args)
        steps += output.total_num_scheduled_tokens > 0
        return output

    scheduler.schedule = noted_schedule
    try:
        yield
    finally:
        scheduler.schedule = schedule
    outcome |= {"engine steps": steps, "counts": kinds_of_request.counts_since(llm, before)}


def core_of(llm: Any) -> Any:
    """vLLM's engine core, which is in this process."""
    return llm.llm_engine.engine_core.engine_core


def greedy(tokens: int) -> Any:
    """vLLM's sampling parameters for exactly so many."""
    from vllm import SamplingParams

    return SamplingParams(temperature=0, max_tokens=tokens, ignore_eos=True, logprobs=0)


def noted(said: Sequence[Any]) -> dict[str, Any]:
    """vLLM's outputs -> of each the tokens and their log-probabilities."""
    return {
        "tokens": [list(each.token_ids) for each in said],
        "logprobs": [
            [of[token].logprob for of, token in zip(each.logprobs, each.token_ids, strict=True)] for each in said
        ],
    }
