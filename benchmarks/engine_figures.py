"""What `engine.py` measures of an engine, and the table of it. Runs under any vLLM, and its table under none."""

import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

PREFILLS = (64, 256, 512, 1024, 2048, 4096, 8192, 32768)
BATCHES = (1, 16, 64, 256)
BATCHED_TOKENS = 8192
DECODES = 128  # steps that a decode figure is the mean of
LOADS = ((192, 2048, 128), (96, 4096, 16), (160, 256, 512))  # requests, tokens in, tokens out
# Phases: an engine and how it ran. Each is a column of the table.
STOCK, ONE = "stock", "one GPU"
NEVER, ALWAYS, AUTO = "shift, never", "shift, always", "shift, auto"
ARCTIC_SEQUENCE, ARCTIC_SHIFT = "ArcticInference, SP", "ArcticInference, shift"

Figures = dict[str, Any]  # of one phase in one round, as `measure` gives them
Rounds = Mapping[str, Sequence[Figures]]  # by phase


def measure(llm: Any, copies: int = 1) -> dict[str, Any]:
    """Milliseconds: a prefill of one request by its tokens, a decode step by its batch. Tokens per second, in and out,
    of each load; of so many copies of this engine that share it evenly."""
    from vllm import SamplingParams

    ids = random.Random(0)

    def prompt(tokens: int) -> dict[str, list[int]]:
        return {"prompt_token_ids": [ids.randrange(10, 120000) for _ in range(tokens)]}

    def seconds(prompts: list[dict[str, list[int]]], tokens: int) -> float:
        wanted = SamplingParams(
            temperature=0.0, max_tokens=tokens, min_tokens=tokens, ignore_eos=True, detokenize=False
        )
        began = time.perf_counter()
        llm.generate(prompts, wanted, use_tqdm=False)
        return time.perf_counter() - began

    seconds([prompt(64) for _ in range(8)], 8)

    def decode_step(prompts: list[dict[str, list[int]]]) -> float:
        return (seconds(prompts, DECODES + 2) - seconds(prompts, 2)) / DECODES

    prefill, decode = {}, {}
    for n in PREFILLS:
        prefill[str(n)] = median_of(partial(seconds, [prompt(n)], 1), 7 if n <= BATCHED_TOKENS else 3) * 1e3
    for batch in BATCHES:
        decode[str(batch)] = median_of(partial(decode_step, [prompt(64) for _ in range(batch)]), 4) * 1e3
    throughput = {}
    for requests, tokens, output in LOADS:
        share = requests // copies
        took = seconds([prompt(tokens) for _ in range(share)], output)
        throughput[load_name(tokens, output)] = copies * share * (tokens + output) / took
    return {"prefill": prefill, "decode": decode, "throughput": throughput}


def load_name(tokens: int, output: int) -> str:
    """What a table calls a load."""
    return f"{tokens} in, {output} out"


def median_of(run: Callable[[], float], times: int) -> float:
    """The median of so many runs, after one that warms up."""
    return statistics.median([run() for _ in range(times + 1)][1:])


def table(rounds: Rounds, said_before: str, lacks: Mapping[str, str]) -> str:
    """Markdown: a row per size, a column per phase, each with its ratio to stock. `lacks`: why engines did not run."""
    lines = [
        said_before,
        "",
        "| | " + " | ".join(rounds) + " |",
        "|---" * (len(rounds) + 1) + "|",
    ]
    for what, sizes, said in (("prefill", PREFILLS, "prefill of {} tokens"), ("decode", BATCHES, "decode, batch {}")):
        lines += [_row(rounds, what, str(size), said.format(size), ".2f") for size in sizes]
    for _, tokens, output in LOADS:
        name = load_name(tokens, output)
        lines.append(_row(rounds, "throughput", name, f"{name}, tokens/s", ",.0f"))
    lines.append("")
    if NEVER in rounds:
        last = rounds[NEVER][-1]
        lines.append(
            f"- crossover {last['crossover']} tokens; weights on rank 0: {last['weights']}; overlay: {last['overlay']}"
        )
    lines += [f"- {phase}: started in {each[-1]['start, s']} s" for phase, each in rounds.items()]
    lines += [f"- not run: {engine}: {why}" for engine, why in lacks.items()]
    return "\n".join(lines) + "\n"


def _row(rounds: Rounds, what: str, size: str, said: str, form: str) -> str:
    """A line of the table: the median of each phase, and its ratio to stock's where that ran."""
    medians = {phase: statistics.median(figures[what][size] for figures in each) for phase, each in rounds.items()}
    stock = medians.get(STOCK)
    cells = [
        format(value, form) + ("" if stock is None or phase == STOCK else f" ({value / stock:.3f})")
        for phase, value in medians.items()
    ]
    return f"| {said} | " + " | ".join(cells) + " |"
