"""The results of a session on GPUs in which all is well, made up: what tests/gpu/verdict.py must find nothing in."""

import functools
from typing import Any

import kinds_of_request
from batches import ANSWERS, KINDS, asked_in
from case import BUILT, EAGLE, LIVE, Case
from every_kind import PROMPT, PROMPT_TOKENS
from phases import EVERY_OTHER, MIXED, NEVER
from session import CASES, KERNELS

KIND_NAMES = [*kinds_of_request.requests(speculation=False), "in chunks, alone", "in chunks, again"]
KIND_TOKENS = 12
TEXTS = {"JSON": '{"port":7,"keeper":"dog"}', "a choice": "fog"}
STEPS = 40  # of a phase


@functools.cache
def good_session() -> dict[str, Any]:
    """By case. Shared: take a deep copy of what you change."""
    return {name: {"phases": {}} if name == KERNELS else of_case(Case.named(name)) for name in CASES}


def of_case(case: Case) -> dict[str, Any]:
    """What case.py writes."""
    result: dict[str, Any] = {"async": True, "phases": {}}
    degrees = {degree: {"steps": 0} for degree in (f"1x{case.gpus}", *([] if case.is_stock else case.degrees))}
    if not case.is_stock:
        reports = [report(degree) for degree in degrees]
        result["at start"] = {"reports": reports, "graphs": dict.fromkeys(degrees, 512 * (case.mode == "graphs"))}
        result["at start"] |= {"weights": {}, "overlay": {}, "calibration": {"tookSeconds": 3.14}}
    for phase in case.phases:
        said = of_phase(case, phase)
        if not case.is_stock:
            for degree in run_in(case, phase):
                degrees.setdefault(degree, {"steps": 0})["steps"] += STEPS
            said["stats"] = {"degrees": {degree: dict(totals) for degree, totals in degrees.items()}, "fallbacks": {}}
        result["phases"][phase] = said
    return result


def of_phase(case: Case, phase: str) -> dict[str, Any]:
    """The answers of a phase, and what vLLM counted meanwhile."""
    batch, rounds = asked_in(phase), 1
    more: dict[str, Any] = {}
    if phase == LIVE:
        rounds, changes = 20, case.live_changes
        more = {"changes": changes, "with a step in flight": changes - 9, "ranks agreed at every change": True}
    if phase == BUILT:
        more = {"built": report("2x2")}
    answers, tokens = ANSWERS[batch]
    said = {
        "tokens": [tokens_of(prompt, tokens or KIND_TOKENS) for prompt in range(answers)] * rounds,
        "logprobs": [logprobs_of(tokens or KIND_TOKENS) for _ in range(answers)] * rounds,
        "engine steps": STEPS,
        "counts": {"preempted": 3 * (batch == KINDS)}
        | ({"drafted": 150, "accepted": 90} if case.model == EAGLE else {}),
    }
    return said | more | (kinds_in(said) if batch == KINDS else {})


def kinds_in(said: dict[str, Any]) -> dict[str, Any]:
    """What requests of all kinds have beside tokens and log-probabilities."""
    answers: dict[str, Any] = {}
    for kind, tokens, logprobs in zip(KIND_NAMES, said["tokens"], said["logprobs"], strict=True):
        by_token = [{str(token): logprob} for token, logprob in zip(tokens, logprobs, strict=True)]
        cached = 192 * kind.endswith("again")
        answers[kind] = {"tokens": tokens, "logprobs": by_token, "text": TEXTS.get(kind, ""), "cached tokens": cached}
    answers[PROMPT]["prompt logprobs"] = [{str(token): -3.0} for token in range(PROMPT_TOKENS)]
    return {"kinds": KIND_NAMES, "answers": answers}


def tokens_of(prompt: int, tokens: int) -> list[int]:
    """Other ones for each prompt."""
    return [3 + (prompt * 61 + place * 17) % 500 for place in range(tokens)]


def logprobs_of(tokens: int) -> list[float]:
    """Of the tokens of an answer."""
    return [-2.0 - place / 64 for place in range(tokens)]


def run_in(case: Case, phase: str) -> list[str]:
    """The degrees that have steps in a phase."""
    if phase == BUILT:
        return ["4x1", "2x2"]
    schedule = phase.removesuffix(asked_in(phase))
    if schedule in (EVERY_OTHER, MIXED, LIVE):
        return [f"1x{case.gpus}", *(case.degrees if schedule == EVERY_OTHER else case.degrees[:1])]
    if schedule == NEVER:
        return [f"1x{case.gpus}"]
    return [schedule.partition(" ")[2] or case.degrees[0]]


def report(degree: str) -> dict[str, Any]:
    """Of a degree that is there."""
    sequence, tensor = map(int, degree.split("x"))
    return {"sequence": sequence, "tensor": tensor, "state": "Loaded", "reason": None}


def phases_beside_stock() -> list[tuple[str, str]]:
    """Each case of ours with each of its phases."""
    engines = [Case.named(name) for name in CASES if name != KERNELS]
    return [(str(case), phase) for case in engines if not case.is_stock for phase in case.phases]


def with_stock(name: str) -> list[str]:
    """A case, and the stock engines that its answers are compared with."""
    case = Case.named(name)
    stock = [case.stock_of(gpus) for gpus in {case.gpus, 1}]
    return [name, *(str(each) for each in stock if str(each) in CASES)]
