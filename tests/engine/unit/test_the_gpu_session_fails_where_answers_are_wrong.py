"""A session on a GPU is a test: from one in which all is well, one thing is broken, and its verdict names case and
phase."""

import copy
import math
from random import Random
from typing import Any

import pytest
from batches import KINDS, asked_in
from case import LIVE, STOCK, Case
from good_session import good_session, phases_beside_stock, with_stock
from session import CASES, KERNELS
from verdict import not_compared, problems

FLAGSHIP = "2x1 graphs bfloat16"
FP8 = "2x1 graphs bfloat16 fp8"
DRAFTED = "2x1 graphs float32 eagle"
KIND = "2x1 graphs float32"
LATER = "4x1 graphs float32"
BUILT = "2x2, built while it served"


@pytest.fixture
def results() -> dict[str, Any]:
    """A session in which all is well."""
    return copy.deepcopy(good_session())


def found(results: dict[str, Any], name: str) -> list[str]:
    """The verdict of a session of this case and what it is compared with."""
    return list(problems(results, with_stock(name)))


def with_random(name: str, phase: str, *, tokens: bool, logprobs: bool) -> dict[str, Any]:
    """A session whose answers in this phase are chance."""
    chance, session = Random(1), dict(good_session())
    said = copy.deepcopy(session[name]["phases"][phase])
    if tokens:
        said["tokens"] = [[chance.randrange(3, 503) for _ in each] for each in said["tokens"]]
    if logprobs:
        said["logprobs"] = [[chance.uniform(-8, -3) for _ in each] for each in said["logprobs"]]
    session[name] = session[name] | {"phases": session[name]["phases"] | {phase: said}}
    return session


def test_a_session_in_which_all_is_well_has_no_problem(results: dict[str, Any]) -> None:
    assert list(problems(results, CASES)) == []
    assert not_compared(CASES) == []


def test_every_phase_has_stock_answers_to_the_same_prompts() -> None:
    lack = {
        (name, phase)
        for name, phase in phases_beside_stock()
        for stock in (Case.named(name).stock,)
        if str(stock) not in CASES or STOCK + asked_in(phase) not in stock.phases
    }
    assert lack == set()


def test_a_case_is_written_as_it_is_read() -> None:
    assert [name for name in CASES if name != KERNELS and str(Case.named(name)) != name] == []
    assert len(set(CASES)) == len(CASES)


@pytest.mark.parametrize(("name", "phase"), phases_beside_stock())
def test_chance_is_no_answer(name: str, phase: str) -> None:
    """In every phase of every case: other tokens under the right log-probabilities, the other way round, and both."""
    for tokens, logprobs in ((True, False), (False, True), (True, True)):
        wrong = found(with_random(name, phase, tokens=tokens, logprobs=logprobs), name)
        assert wrong, f"tokens {tokens}, log-probabilities {logprobs}"
        assert [problem for problem in wrong if not problem.startswith(f"{name}: {phase}: ")] == []


@pytest.mark.parametrize(("name", "phase"), phases_beside_stock())
def test_a_phase_that_is_missing_is_wrong(name: str, phase: str) -> None:
    session = dict(good_session())
    phases = {each: said for each, said in session[name]["phases"].items() if each != phase}
    session[name] = session[name] | {"phases": phases}
    assert f"{name}: no answers of {phase}" in found(session, name)


@pytest.mark.parametrize(("name", "phase"), phases_beside_stock())
def test_a_phase_without_stock_answers_is_wrong(name: str, phase: str) -> None:
    session, stock = dict(good_session()), str(Case.named(name).stock)
    phases = {each: said for each, said in session[stock]["phases"].items() if each != STOCK + asked_in(phase)}
    session[stock] = session[stock] | {"phases": phases}
    assert f"{name}: {phase}: there is nothing of {stock} to compare it with" in found(session, name)


def test_a_stock_engine_that_is_left_out_on_purpose_is_said(results: dict[str, Any]) -> None:
    chosen = [FP8, "stock TP=2 graphs bfloat16 fp8"]
    assert list(problems(results, chosen)) == []
    left_out = "not compared with stock TP=1 graphs bfloat16 fp8, which was left out"
    assert not_compared(chosen) == [f"{FP8}: {left_out}"]


def test_a_case_that_failed_or_never_ran_is_wrong(results: dict[str, Any]) -> None:
    results[KERNELS]["failed"] = "1"
    del results["stock TP=4 graphs bfloat16 fp8"]
    wrong = list(problems(results, CASES))
    assert "kernels: failed, 1" in wrong
    assert "stock TP=4 graphs bfloat16 fp8: failed, no result" in wrong


@pytest.mark.parametrize("where", ["ours", "stock"])
def test_a_log_probability_that_is_no_number_is_wrong(results: dict[str, Any], where: str) -> None:
    name, phase = (FLAGSHIP, "mixed") if where == "ours" else (str(Case.named(FLAGSHIP).stock), STOCK)
    results[name]["phases"][phase]["logprobs"][2][5] = math.nan
    assert f"{name}: {phase}: a log-probability is no number" in found(results, FLAGSHIP)


def test_an_answer_too_few_or_too_short_is_wrong(results: dict[str, Any]) -> None:
    for what in ("tokens", "logprobs"):
        results[FLAGSHIP]["phases"]["never"][what].pop()
        results[FLAGSHIP]["phases"]["always"][what][0].pop()
    assert found(results, FLAGSHIP) == [
        f"{FLAGSHIP}: never: 7 answers of [24] tokens, where 8 of 24 were asked for",
        f"{FLAGSHIP}: always: 8 answers of [23, 24] tokens, where 8 of 24 were asked for",
    ]


def test_an_engine_without_async_scheduling_is_wrong(results: dict[str, Any]) -> None:
    results[FLAGSHIP]["async"] = False
    assert found(results, FLAGSHIP) == [f"{FLAGSHIP}: it ran without async scheduling"]


def test_an_overlay_that_is_not_there_is_wrong(results: dict[str, Any]) -> None:
    results[FLAGSHIP]["at start"]["reports"][1] |= {"state": "NeedsRestart", "reason": "the self-check failed"}
    results[LATER]["phases"][BUILT]["built"] = {"state": "NeedsRestart", "reason": "no room"}
    assert found(results, FLAGSHIP) == [f"{FLAGSHIP}: 2x1 is NeedsRestart: the self-check failed"]
    assert found(results, LATER) == [f"{LATER}: {BUILT}: 2x2 is NeedsRestart: no room"]


@pytest.mark.parametrize("degree", ["1x2", "2x1"])
def test_graphs_that_are_missing_are_wrong(results: dict[str, Any], degree: str) -> None:
    """Those of the host's steps with prefills too."""
    results[FLAGSHIP]["at start"]["graphs"][degree] = 0
    assert found(results, FLAGSHIP) == [f"{FLAGSHIP}: {degree} has graphs of up to 0 tokens with graphs"]


def test_graphs_that_were_to_be_off_are_wrong(results: dict[str, Any]) -> None:
    name = "2x1 stock-graphs bfloat16"
    results[name]["at start"]["graphs"]["1x2"] = 128
    assert found(results, name) == [f"{name}: 1x2 has graphs of up to 128 tokens with stock-graphs"]


def test_a_step_that_fell_back_is_wrong_in_its_phase_alone(results: dict[str, Any]) -> None:
    after = False
    for phase, said in results[FLAGSHIP]["phases"].items():
        after = after or phase == "mixed"
        if after:  # it is counted from there on
            said["stats"]["fallbacks"] = {"OverlayInactive": 3}
    assert found(results, FLAGSHIP) == [f"{FLAGSHIP}: mixed: steps fell back, {{'OverlayInactive': 3}}"]


@pytest.mark.parametrize(("name", "phase"), phases_beside_stock())
def test_a_phase_without_steps_at_its_degree_is_wrong(name: str, phase: str) -> None:
    """As where all of its steps ran at the other one."""
    session = copy.deepcopy({name: good_session()[name]}) | {
        each: good_session()[each] for each in with_stock(name)[1:]
    }
    phases = session[name]["phases"]
    before = list(phases)[: list(phases).index(phase)]
    counted = phases[before[-1]]["stats"]["degrees"] if before else {}
    steps = {degree: totals["steps"] for degree, totals in phases[phase]["stats"]["degrees"].items()}
    ran = [degree for degree, count in steps.items() if count > counted.get(degree, {"steps": 0})["steps"]]
    missing = ran[-1]  # the last degree loaded, or the only one
    lost = steps[missing] - counted.get(missing, {"steps": 0})["steps"]
    for said in list(phases.values())[len(before) :]:
        said["stats"]["degrees"][missing]["steps"] -= lost
    wrong = found(session, name)
    assert [problem for problem in wrong if problem.startswith(f"{name}: {phase}: no step ran at {missing}, but ")]
    assert len(wrong) == 1


@pytest.mark.parametrize("phase", ["never", "always", "always, around each capture size"])
def test_a_step_at_another_degree_is_wrong(results: dict[str, Any], phase: str) -> None:
    other = "2x1" if phase == "never" else "1x2"
    phases = results[FLAGSHIP]["phases"]
    for said in list(phases.values())[list(phases).index(phase) :]:
        said["stats"]["degrees"][other]["steps"] += 1
    only = {"never": "1x2"}.get(phase, "2x1")
    ran = {"1x2": 40, "2x1": 0} if phase == "never" else {"1x2": 0, "2x1": 40}
    assert found(results, FLAGSHIP) == [
        f"{FLAGSHIP}: {phase}: steps were to run at {only} alone, and ran {ran | {other: 1}}"
    ]


def test_ranks_that_disagree_are_wrong(results: dict[str, Any]) -> None:
    results[FLAGSHIP]["phases"][LIVE]["ranks agreed at every change"] = False
    assert found(results, FLAGSHIP) == [
        f"{FLAGSHIP}: {LIVE}: after 1000 changes, where 1000 are asked for, the ranks agreed: False"
    ]


def test_too_few_changes_are_wrong(results: dict[str, Any]) -> None:
    results[FLAGSHIP]["phases"][LIVE]["changes"] = 999
    assert found(results, FLAGSHIP) == [
        f"{FLAGSHIP}: {LIVE}: after 999 changes, where 1000 are asked for, the ranks agreed: True"
    ]


def test_changes_while_nothing_computes_are_wrong(results: dict[str, Any]) -> None:
    results[FLAGSHIP]["phases"][LIVE]["with a step in flight"] = 40
    assert found(results, FLAGSHIP) == [f"{FLAGSHIP}: {LIVE}: 40 of 1000 changes found a step in flight"]


@pytest.mark.parametrize(("steps", "is_wrong"), [(35, True), (36, False), (44, False), (45, True)])
def test_drafts_that_are_not_accepted_cost_steps(results: dict[str, Any], steps: int, is_wrong: bool) -> None:
    results[DRAFTED]["phases"]["always"]["engine steps"] = steps
    other = f"{DRAFTED}: always: {steps} engine steps, 40 of stock vLLM"
    assert found(results, DRAFTED) == [other] * is_wrong


def test_drafts_that_are_not_accepted_are_wrong_where_no_step_tells(results: dict[str, Any]) -> None:
    """Around the graphs' sizes an answer has two tokens: the step that a draft saves is not among its steps."""
    phase = "always, around each capture size"
    results[DRAFTED]["phases"][phase]["counts"]["accepted"] = 0
    assert found(results, DRAFTED) == [f"{DRAFTED}: {phase}: 0 drafts accepted, 90 of stock vLLM"]


def test_drafts_that_stock_vllm_does_not_accept_prove_nothing(results: dict[str, Any]) -> None:
    results["stock TP=2 graphs float32 eagle"]["phases"][STOCK]["counts"]["accepted"] = 0
    wrong = found(results, DRAFTED)
    assert f"{DRAFTED}: always: stock vLLM accepted no draft, so nothing is known of ours" in wrong


@pytest.mark.parametrize("model", ["", " fp8"])
def test_never_is_stock_vllm_bit_for_bit(results: dict[str, Any], model: str) -> None:
    results[FLAGSHIP + model]["phases"]["never"]["logprobs"][0][3] += 1e-6
    assert found(results, FLAGSHIP + model) == [
        f"{FLAGSHIP}{model}: never: 7 of 8 answers are stock vLLM's bit for bit, up to 1.0e-06 apart"
    ]


def test_other_tokens_in_never_are_wrong(results: dict[str, Any]) -> None:
    results[FLAGSHIP]["phases"]["never"]["tokens"][0][-1] = 502
    assert found(results, FLAGSHIP) == [
        f"{FLAGSHIP}: never: 7 of 8 answers are stock vLLM's bit for bit, up to 0.0e+00 apart"
    ]


def test_in_fp8_two_ranks_answer_as_one_gpu(results: dict[str, Any]) -> None:
    """Rounding hides nothing there: where a rank scaled half rows, as stock TP=2 does, no answer would be identical."""
    said = results[FP8]["phases"]["always"]
    said["logprobs"] = [[each + 1e-3 for each in of_answer] for of_answer in said["logprobs"]]
    assert found(results, FP8) == [f"{FP8}: always: 0 of 8 answers are one GPU's bit for bit, where 3 must be"]


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        (lambda said: said["counts"].update(preempted=0), "batch preempted no request"),
        (
            lambda said: said["answers"]["in chunks, again"].update({"cached tokens": 0}),
            "batch found no prompt in the ",
        ),
        (lambda said: said["answers"]["a choice"].update(text="dog"), "choice is 'dog', none of fog, morning"),
        (lambda said: said["answers"]["JSON"].update(text="sure:"), "JSON is 'sure:', which has no "),
        (
            lambda said: said["answers"]["log-probabilities of the prompt"]["prompt logprobs"].pop(),
            "batch has log-probabilities of 59 tokens of a prompt of 60",
        ),
        (
            lambda said: said["answers"]["log-probabilities of the prompt"]["prompt logprobs"][7].update({"7": -3.1}),
            "log-probabilities of the prompt: log-probabilities are up to 1.0e-01 apart",
        ),
        (lambda said: said.update(kinds=said["kinds"][1:]), "the kinds are "),
    ],
)
def test_a_kind_of_request_that_was_not_answered_is_wrong(results: dict[str, Any], broken: Any, sentence: str) -> None:
    broken(results[KIND]["phases"]["always" + KINDS])
    wrong = found(results, KIND)
    assert [problem for problem in wrong if problem.startswith(f"{KIND}: always{KINDS}: {sentence}")]
    assert len(wrong) == 1
