"""What `engine.py` measures of an engine, and the table of it. Runs under any vLLM, and its table under none."""

import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

PREFILLS = (64, 256, 512, 1024, 2048, 4096, 8192, 32768)
BATCHES = (1, 16, 64, 256)
BATCHED_TOKENS = 8192
DECODES = 128  # steps that a decode figure is the mean of
LAST_STEPS = 4  # of a batch: some requests have ended by then
LOADS = ((192, 2048, 128), (96, 4096, 16), (160, 256, 512))  # requests, tokens in, tokens out
# Phases: an engine and how it ran. Each is a column of the table.
STOCK, ONE = "stock", "one GPU"
CONTROL = "stock, again"  # another engine of the same kind: as far from stock as chance takes it
NEVER, ALWAYS, AUTO = "shift, never", "shift, always", "shift, auto"
UNTIMED = "never, untimed"  # as NEVER, but no step is timed: no events between the kernels
ARCTIC_SEQUENCE, ARCTIC_SHIFT = "ArcticInference, SP", "ArcticInference, shift"

Figures = dict[str, Any]  # of one phase in one round, as `measure` gives them
Turn = dict[str, list[float]]  # of one engine, as `turn` gives it
Rounds = Mapping[str, Sequence[Figures]]  # by phase


class Load:
    """Requests of random tokens, sent to one engine at once. The same ones for every engine."""

    def __init__(self, llm: Any) -> None:
        self._llm = llm
        self._ids = random.Random(0)

    def prompts(self, count: int, tokens: int) -> list[dict[str, list[int]]]:
        """So many new ones, of so many tokens each."""
        return [{"prompt_token_ids": [self._ids.randrange(10, 120000) for _ in range(tokens)]} for _ in range(count)]

    def seconds(self, prompts: list[dict[str, list[int]]], tokens: int) -> float:
        """Until all have so many tokens."""
        from vllm import SamplingParams

        wanted = SamplingParams(
            temperature=0.0, max_tokens=tokens, min_tokens=tokens, ignore_eos=True, detokenize=False
        )
        began = time.perf_counter()
        self._llm.generate(prompts, wanted, use_tqdm=False)
        return time.perf_counter() - began

    def decode_step(self, prompts: list[dict[str, list[int]]]) -> float:
        """Seconds, the mean of DECODES steps: what is left when the prefill and the first steps are taken off."""
        return (self.seconds(prompts, DECODES + 2) - self.seconds(prompts, 2)) / DECODES

    def begun(self, prompts: list[dict[str, list[int]]], tokens: int) -> Any:
        """-> vLLM's engine, which has these requests for so many tokens each; the caller steps it. The engine's core is
        in this process."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        last_only = RequestOutputKind.FINAL_ONLY
        wanted = SamplingParams(
            temperature=0.0, max_tokens=tokens, ignore_eos=True, detokenize=False, output_kind=last_only
        )
        for i, prompt in enumerate(prompts):
            self._llm.llm_engine.add_request(str(i), prompt, wanted)
        return self._llm.llm_engine

    def decode_steps(self, prompts: list[dict[str, list[int]]]) -> list[float]:
        """Seconds from the end of a decode step to the end of the next one, DECODES times. Unlike `decode_step` it
        subtracts nothing, so no prefill's scatter is in it."""
        engine = self.begun(prompts, DECODES + 4 * LAST_STEPS)
        ends: list[float] = []
        while engine.has_unfinished_requests():
            engine.step()
            ends.append(time.perf_counter())
        ends = ends[-(DECODES + 1 + LAST_STEPS) : -LAST_STEPS]
        return [after - before for before, after in pairwise(ends)]


def measure(llm: Any, copies: int = 1) -> Figures:
    """Milliseconds: a prefill of one request by its tokens, a decode step by its batch. Tokens per second, in and out,
    of each load; of so many copies of this engine that share it evenly."""
    load = Load(llm)
    load.seconds(load.prompts(8, 64), 8)
    prefill, decode = {}, {}
    for n in PREFILLS:
        run = partial(load.seconds, load.prompts(1, n), 1)
        prefill[str(n)] = median_of(run, 7 if n <= BATCHED_TOKENS else 3) * 1e3
    for batch in BATCHES:
        decode[str(batch)] = median_of(partial(load.decode_step, load.prompts(batch, 64)), 4) * 1e3
    throughput = {}
    for requests, tokens, output in LOADS:
        share = requests // copies
        took = load.seconds(load.prompts(share, tokens), output)
        throughput[load_name(tokens, output)] = copies * share * (tokens + output) / took
    return {"prefill": prefill, "decode": decode, "throughput": throughput}


def turn(llm: Any) -> Turn:
    """Milliseconds of DECODES decode steps, by their batch."""
    load = Load(llm)
    return {str(batch): [each * 1e3 for each in load.decode_steps(load.prompts(batch, 64))] for batch in BATCHES}


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
        crossovers = ", ".join(str(each["calibration"]["crossoverTokens"]) for each in rounds[NEVER])
        lines.append(
            f"- crossover at each round's begin {crossovers} tokens; weights on rank 0: {last['weights']}, "
            f"with the host's own {last['memory']['weightBytes']:,} bytes; "
            f"overlay: {last['overlay']}"
        )
    lines += [f"- {phase}: started in {each[-1]['start, s']} s" for phase, each in rounds.items()]
    lines += [f"- not run: {engine}: {why}" for engine, why in lacks.items()]
    return "\n".join(lines) + "\n"


def table_of_turns(turns: Mapping[str, Sequence[Turn]]) -> str:
    """Markdown: what the shift engine costs where nothing shifts. Turns of the same index follow each other at once, so
    their ratio is free of what changes slowly on the host."""
    others = [phase for phase, each in turns.items() if len(each) > 1 and phase != STOCK]
    lines = [
        f"Decode steps of engines that never shift, {len(turns[STOCK])} turns of each, one after the other, "
        f"{DECODES} steps in a turn: the median turn's mean, milliseconds; of the ratios of two turns that follow each "
        "other the median and the quartiles.",
        "",
        f"| batch | {STOCK} | " + " | ".join(f"{phase} | ratio | quartiles" for phase in others) + " |",
        "|---|---" + "|---|---|---" * len(others) + "|",
    ]
    for batch in map(str, BATCHES):
        means = {phase: [statistics.fmean(turn[batch]) for turn in turns[phase]] for phase in (STOCK, *others)}
        cells = [f"{statistics.median(means[STOCK]):.3f}"]
        for phase in others:
            ratios = [ours / theirs for theirs, ours in zip(means[STOCK], means[phase], strict=False)]
            first, middle, third = statistics.quantiles(ratios, n=4)
            cells += [f"{statistics.median(means[phase]):.3f}", f"{middle:.4f}", f"{first:.4f} to {third:.4f}"]
        lines.append(f"| {batch} | {' | '.join(cells)} |")
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
