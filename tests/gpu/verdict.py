"""What a session's answers must be, beyond that its processes ended well. Pure."""

from collections.abc import Iterator
from typing import Any

from case import AROUND, BUILT, FP8, LIVE, LIVE_CHANGES, MOE, NEVER, NEVER_AROUND, STOCK, STOCK_AROUND, Case

Said = dict[str, Any]  # of one phase: tokens and log-probabilities by prompt, what the ranks counted

# Where the tokens up to there are the same, log-probabilities differ by rounding alone. Attention of float32 on GPUs
# rounds its products to TF32; where two experts are nearly level, it decides which one a router chooses.
# Seen on two H200: 0.0016, 0.1, with experts 0.0043 and 0.51, in fp8 0.46.
APART = {"float32": 5e-3, "bfloat16": 0.15}
APART_WITH_EXPERTS = {"float32": 1e-2, "bfloat16": 0.8}
APART_IN_FP8 = 0.7
# Of prompts with two tokens each, how many have the very tokens of stock vLLM. Seen: all, 0.91, in fp8 0.43; two tokens
# of 500 that are chosen otherwise are the same by chance never.
SAME = {"float32": 1.0, "bfloat16": 0.8}
SAME_IN_FP8 = 0.3


def problems(results: dict[str, Said]) -> Iterator[str]:
    """Of all cases of a session by name, a sentence for each thing that is not as it must be."""
    stock = {
        _key(Case.named(name), phase): said for name, phase, said in _phases(results) if phase in (STOCK, STOCK_AROUND)
    }
    for name, result in results.items():
        if "failed" in result:
            yield f"{name}: failed, {result['failed']}"
        if "at start" in result:
            yield from (f"{name}: {problem}" for problem in _at_start(Case.named(name), result["at start"]))
    for name, phase, said in _phases(results):
        if phase in (STOCK, STOCK_AROUND):
            continue
        case = Case.named(name)
        theirs = stock.get(_key(case, STOCK_AROUND if phase.endswith(AROUND) else STOCK))
        found = [*_as_told(phase, said), *(_beside(case, phase, said, theirs) if theirs else ())]
        yield from (f"{name}, {phase}: {problem}" for problem in found)


def _phases(results: dict[str, Said]) -> Iterator[tuple[str, str, Said]]:
    for name, result in results.items():
        for phase, said in result["phases"].items():
            yield name, phase, said


def _key(case: Case, phase: str) -> tuple[Any, ...]:
    """Of the stock engine that a phase is compared with: the same GPUs, dtype and model."""
    return case.gpus, case.dtype, case.model, phase


def _at_start(case: Case, stats: dict[str, Any]) -> Iterator[str]:
    states = {f"{each['sequence']}x{each['tensor']}": each for each in stats["reports"]}
    for degree in case.degrees:
        if states[degree]["state"] != "Loaded":
            yield f"{degree} is {states[degree]['state']}: {states[degree].get('reason')}"
        elif (stats["graphs"][degree] > 0) != (case.mode == "graphs"):
            yield f"{degree} has graphs of up to {stats['graphs'][degree]} tokens with {case.mode}"


def _as_told(phase: str, said: Said) -> Iterator[str]:
    """What the engine says of itself."""
    if fallbacks := said["stats"]["fallbacks"]:
        yield f"steps fell back, {fallbacks}"
    if phase == BUILT and said["built"]["state"] != "Loaded":
        yield f"2x2 is {said['built']['state']}: {said['built'].get('reason')}"
    if phase == LIVE and not (said["changes"] >= LIVE_CHANGES and said["ranks agreed at every change"]):
        yield f"after {said['changes']} changes the ranks agreed: {said['ranks agreed at every change']}"


def _beside(case: Case, phase: str, said: Said, stock: Said) -> Iterator[str]:
    """Compared with stock vLLM on as many GPUs."""
    pairs = [*zip(said["tokens"], stock["tokens"], said["logprobs"], stock["logprobs"], strict=True)]
    same = sum(ours == theirs for ours, theirs, _, _ in pairs)
    apart = max(apart_until_they_differ(*pair) for pair in pairs)
    if phase in (NEVER, NEVER_AROUND) and case.mode == "stock-graphs" and (same < len(pairs) or apart > 0):
        yield f"{same} of {len(pairs)} prompts have stock vLLM's tokens, up to {apart:.1e} apart, where all is stock"
    wanted = SAME_IN_FP8 if case.model == FP8 else SAME[case.dtype]
    if phase.endswith(AROUND) and same < wanted * len(pairs):
        yield f"{same} of {len(pairs)} prompts have stock vLLM's tokens, where rounding leaves {wanted:.0%}"
    bounds = APART_WITH_EXPERTS if case.model == MOE else APART
    bound = APART_IN_FP8 if case.model == FP8 else bounds[case.dtype]
    if apart > bound:
        yield f"log-probabilities are up to {apart:.1e} apart before tokens differ, where rounding explains {bound:.1e}"


def apart_until_they_differ(
    ours: list[int], theirs: list[int], our_logprobs: list[float], their_logprobs: list[float]
) -> float:
    """By how much the log-probabilities of a prompt's tokens differ at most, up to the first token that differs."""
    differs = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b), len(ours))
    return max((abs(a - b) for a, b in zip(our_logprobs[:differs], their_logprobs[:differs], strict=True)), default=0.0)
