"""What a session's answers must be, beyond that its processes ended well. Pure."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from alike import (
    BFLOAT16,
    BFLOAT16_WITH_EXPERTS,
    FLOAT32,
    FLOAT32_WITH_EXPERTS,
    IN_FP8,
    Pair,
    Rounding,
    Said,
    pairs,
)
from batches import ANSWERS, AROUND, KINDS, asked_in
from case import BUILT, EAGLE, FP8, LIVE, MOE, STOCK, Case
from every_kind import kinds_beside
from phases import ALWAYS, EVERY_OTHER, NEVER

WITH_EXPERTS = {"float32": FLOAT32_WITH_EXPERTS, "bfloat16": BFLOAT16_WITH_EXPERTS}
DENSE = {"float32": FLOAT32, "bfloat16": BFLOAT16}
# In fp8 a rank of 2x1 scales whole rows of activations, as one GPU does. So it has that one's tokens, many with the
# very same log-probabilities. Seen: always 4 of 8 and 3 % turned; around each graph's size 8 of 29 and 7 %.
LIKE_ONE_GPU = "2x1 graphs bfloat16 fp8"
IDENTICAL_TO_ONE_GPU = {ALWAYS: 3, ALWAYS + AROUND: 5}
TURNED_FROM_ONE_GPU = 0.15
NOTHING_COUNTED: Said = {"degrees": {}, "fallbacks": {}}  # by `shift_stats`, yet
SHARE_OF_DRAFTS = 0.1  # by which drafts accepted, and engine steps, may differ from stock vLLM's: a token may turn


def problems(results: dict[str, Said], chosen: Sequence[str]) -> Iterator[str]:
    """Of the chosen cases of a session by name, a sentence for each thing that is not as it must be."""
    for name in chosen:
        result = results.get(name, {"phases": {}, "failed": "no result"})
        if "failed" in result:
            yield f"{name}: failed, {result['failed']}"
        if has_engine(name):
            yield from (f"{name}: {problem}" for problem in _of_case(Case.named(name), result, results, chosen))


def not_compared(chosen: Sequence[str]) -> list[str]:
    """A sentence for each case whose stock engine was left out of a session on purpose."""
    of_ours = [Case.named(name) for name in chosen if has_engine(name)]
    return [
        f"{case}: not compared with {stock}, which was left out"
        for case in of_ours
        for stock in _compared_with(case)
        if str(stock) not in chosen
    ]


def has_engine(name: str) -> bool:
    """Whether it is a case: the kernels' name has one word."""
    return " " in name


def _compared_with(case: Case) -> list[Case]:
    if case.is_stock:
        return []
    return [case.stock, *([case.stock_of(1)] if str(case) == LIKE_ONE_GPU else [])]


def _of_case(case: Case, result: Said, results: dict[str, Said], chosen: Sequence[str]) -> Iterator[str]:
    if result["phases"] and not result.get("async"):
        yield "it ran without async scheduling"
    if "at start" in result:
        yield from _at_start(case, result["at start"])
    if missing := [phase for phase in case.phases if phase not in result["phases"]]:
        yield f"no answers of {'; '.join(missing)}"
    before = NOTHING_COUNTED
    for phase in case.phases:
        said = result["phases"].get(phase)
        if said is None:
            continue
        if malformed := _malformed(phase, said):
            yield f"{phase}: {malformed}"
        elif not case.is_stock:
            yield from (f"{phase}: {problem}" for problem in _as_told(case, phase, said, before))
            for stock in _compared_with(case):
                theirs = results.get(str(stock), {"phases": {}})["phases"].get(STOCK + asked_in(phase))
                if theirs is not None and not _malformed(phase, theirs):
                    yield from (f"{phase}: {problem}" for problem in _beside(case, stock, phase, said, theirs))
                elif str(stock) in chosen:
                    yield f"{phase}: there is nothing of {stock} to compare it with"
        before = said.get("stats", before)


def _malformed(phase: str, said: Said) -> str | None:
    """Whether there are not as many answers as there are prompts, each of as many tokens, with numbers beside them."""
    answers, tokens = ANSWERS[asked_in(phase)]
    found = [*map(len, said["tokens"])]
    as_many_logprobs = found == [*map(len, said["logprobs"])]
    rounds = 1 if phase != LIVE else max(1, len(found) // answers)
    right = len(found) == rounds * answers and all(each > 0 if tokens is None else each == tokens for each in found)
    if not (right and as_many_logprobs):
        some = tokens or "some"
        return f"{len(found)} answers of {sorted(set(found))} tokens, where {answers} of {some} were asked for"
    if not all(math.isfinite(each) for of_answer in said["logprobs"] for each in of_answer):
        return "a log-probability is no number"
    return None


def _at_start(case: Case, stats: dict[str, Any]) -> Iterator[str]:
    states = {f"{each['sequence']}x{each['tensor']}": each for each in stats["reports"]}
    for degree in case.degrees:
        if states[degree]["state"] != "Loaded":
            yield f"{degree} is {states[degree]['state']}: {states[degree].get('reason')}"
    for degree in (f"1x{case.gpus}", *case.degrees):
        up_to = stats["graphs"].get(degree, 0)
        if (up_to > 0) != (case.mode == "graphs"):
            yield f"{degree} has graphs of up to {up_to} tokens with {case.mode}"


def _as_told(case: Case, phase: str, said: Said, before: Said) -> Iterator[str]:
    """What the engine says of itself; `before` is what it had counted before the phase."""
    if said["stats"]["fallbacks"] != before["fallbacks"]:
        yield f"steps fell back, {said['stats']['fallbacks']}"
    if phase == BUILT and said["built"]["state"] != "Loaded":
        yield f"2x2 is {said['built']['state']}: {said['built'].get('reason')}"
    steps = steps_since(before, said["stats"])
    asked_for = _must_run(case, phase)
    for degree in asked_for:
        if not steps.get(degree):
            yield f"no step ran at {degree}, but {steps}"
    if len(asked_for) == 1 and phase != BUILT and any(n for degree, n in steps.items() if degree not in asked_for):
        yield f"steps were to run at {asked_for[0]} alone, and ran {steps}"
    if phase == LIVE:
        changes, agreed = said["changes"], said["ranks agreed at every change"]
        if not (changes >= case.live_changes and agreed):
            yield f"after {changes} changes, where {case.live_changes} are asked for, the ranks agreed: {agreed}"
        if said["with a step in flight"] < changes / 2:
            yield f"{said['with a step in flight']} of {changes} changes found a step in flight"


def steps_since(before: Said, stats: Said) -> dict[str, int]:
    """By degree, the steps that ran between two answers of `shift_stats`."""
    return {
        degree: totals["steps"] - before["degrees"].get(degree, {"steps": 0})["steps"]
        for degree, totals in stats["degrees"].items()
    }


def _must_run(case: Case, phase: str) -> list[str]:
    """The degrees at which a phase must have run steps."""
    full = f"1x{case.gpus}"
    told = phase.removesuffix(asked_in(phase))
    if told == NEVER:
        return [full]
    if told.startswith(ALWAYS):
        return [told.partition(" ")[2] or case.degrees[0]]
    if told == BUILT:
        return ["2x2"]
    return [full, *(case.degrees if told == EVERY_OTHER else case.degrees[:1])]


def _beside(case: Case, stock: Case, phase: str, said: Said, theirs: Said) -> Iterator[str]:
    """Compared with stock vLLM's answers to the same prompts."""
    answers = pairs(said, theirs)
    if case.model == EAGLE and phase != LIVE:  # a round of live changes finds its prompts in the cache
        yield from _drafts(said, theirs)
    if stock != case.stock:
        yield from _like_one_gpu(phase, answers)
    elif phase.endswith(KINDS):
        yield from kinds_beside(said, theirs, FLOAT32.apart)
    elif phase.startswith(NEVER) and case.model != MOE and case.mode != "eager":
        if found := _not_identical(answers):
            yield found
    else:
        yield from _rounding(case).explains(answers)


def _drafts(said: Said, theirs: Said) -> Iterator[str]:
    """Whether as many are accepted: they are made from hidden states that the overlay hands over."""
    if not theirs["counts"]["accepted"]:
        yield "stock vLLM accepted no draft, so nothing is known of ours"
    for what, ours, stock in (
        ("engine steps", said["engine steps"], theirs["engine steps"]),
        ("drafts accepted", said["counts"]["accepted"], theirs["counts"]["accepted"]),
    ):
        if abs(ours - stock) > SHARE_OF_DRAFTS * stock:
            yield f"{ours} {what}, {stock} of stock vLLM"


def _rounding(case: Case) -> Rounding:
    return IN_FP8 if case.model == FP8 else (WITH_EXPERTS if case.model == MOE else DENSE)[case.dtype]


def _not_identical(answers: list[Pair]) -> str | None:
    identical = sum(pair.is_identical for pair in answers)
    if identical == len(answers):
        return None
    apart = max(pair.apart(pair.compared) for pair in answers)
    return f"{identical} of {len(answers)} answers are stock vLLM's bit for bit, up to {apart:.1e} apart"


def _like_one_gpu(phase: str, answers: list[Pair]) -> Iterator[str]:
    if phase not in IDENTICAL_TO_ONE_GPU:
        return
    identical, wanted = sum(pair.is_identical for pair in answers), IDENTICAL_TO_ONE_GPU[phase]
    if identical < wanted:
        yield f"{identical} of {len(answers)} answers are one GPU's bit for bit, where {wanted} must be"
    yield from (f"beside one GPU {found}" for found in IN_FP8._replace(turned=TURNED_FROM_ONE_GPU).explains(answers))
