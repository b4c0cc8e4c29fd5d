"""The engine's promise, on real vLLM (CPU, fp32): overlay off is stock vLLM bit for bit, SP=P is TP=1 bit for bit, and
any schedule gives the same greedy tokens from the same KV cache.

The prompts have 1 to 500 tokens, are prefilled in chunks of at most 192, share a cached prefix, and decode together in
odd batches, at the end a single row at a time; serving/scenarios.py.
"""

from collections.abc import Callable
from typing import Any

import pytest

Run = Callable[[str], dict[str, Any]]
CLOSE = 1e-4  # of log-probabilities in fp32 between degrees: sums are split differently

THREE_MODES = "4x1 and 2x2"  # and 1x4, in one engine
COMPILED = "4x1 and 2x2, compiled, weights once"
FULL = pytest.mark.full  # the repeats with four compiled ranks; weights that exist once have two
ENGINES = ["overlay 2x1", THREE_MODES, pytest.param(COMPILED, marks=FULL)]
MATRIX = [
    *(("overlay 2x1", phase) for phase in ("never", "always", "mixed", "every other", "in mid-request")),
    *((THREE_MODES, phase) for phase in ("never", "always", "always 2x2", "three ranges", "every other")),
    *(pytest.param(COMPILED, phase, marks=FULL) for phase in ("never", "always", "always 2x2", "every other")),
]


@pytest.mark.parametrize(("name", "stock"), [("overlay 2x1", "stock TP=2"), (THREE_MODES, "stock TP=4")])
def test_never_shifting_is_stock_tensor_parallelism_bit_for_bit(run: Run, name: str, stock: str) -> None:
    assert answers(run(name)["never"]) == answers(run(stock)["stock"])


@pytest.mark.parametrize("name", ["overlay 2x1", THREE_MODES])
def test_pure_sequence_parallelism_is_one_gpu_bit_for_bit(run: Run, name: str) -> None:
    assert answers(run(name)["always"]) == answers(run("stock TP=1")["stock"])


@pytest.mark.parametrize(("name", "phase"), MATRIX)
def test_tokens_are_those_of_stock_vllm(run: Run, name: str, phase: str) -> None:
    found, stock = run(name)[phase], run("stock TP=2" if "2x1" in name else "stock TP=4")["stock"]
    assert found["tokens"] == stock["tokens"]
    assert largest_difference(found["logprobs"], stock["logprobs"]) < CLOSE
    assert largest_difference(found["prompt logprobs"], stock["prompt logprobs"]) < CLOSE
    assert found["cached tokens"] == stock["cached tokens"] > 0  # the shared prefix came from the cache


@pytest.mark.parametrize(("name", "phase"), MATRIX)
def test_the_kv_cache_is_the_same_under_every_degree(run: Run, name: str, phase: str) -> None:
    """Rank r of P holds KV head r * 2 // P. A pad row that was written would change how much is written."""
    caches, stock = run(name)[phase]["cache"], run("stock TP=2")["stock"]["cache"]
    for rank, cache in enumerate(caches):
        for layer, of_stock in zip(cache, stock[rank * 2 // len(caches)], strict=True):
            assert layer["written"] == of_stock["written"]
            assert layer["magnitude"] == pytest.approx(of_stock["magnitude"], rel=1e-6)
            assert layer["sum"] == pytest.approx(of_stock["sum"], rel=1e-4)


def test_each_layers_kv_cache_is_the_same_after_a_prefill_under_every_degree(run: Run) -> None:
    """Number by number, in the order of the prompt's tokens, on every rank; 301 tokens in two chunks."""
    ranks = run(THREE_MODES)["caches"]["after a prefill"]
    assert len(ranks) == 4
    for caches in ranks:
        assert set(caches) == {"1x4", "2x2", "4x1"}
        for layers in caches.values():
            assert len(layers) == 4
            for layer in layers:
                assert layer["largest"] > 1
                assert layer["difference"] <= 1e-5 * layer["largest"]


@pytest.mark.parametrize(
    ("name", "phase", "degrees"),
    [
        ("overlay 2x1", "never", {"1x2"}),
        ("overlay 2x1", "always", {"2x1"}),
        ("overlay 2x1", "mixed", {"1x2", "2x1"}),
        (THREE_MODES, "always", {"4x1"}),
        (THREE_MODES, "always 2x2", {"2x2"}),
        (THREE_MODES, "three ranges", {"1x4", "2x2", "4x1"}),
        pytest.param(COMPILED, "every other", {"1x4", "2x2", "4x1"}, marks=FULL),
    ],
)
def test_the_steps_ran_at_the_degrees_of_the_schedule(run: Run, name: str, phase: str, degrees: set[str]) -> None:
    before, after = (steps_by_degree(run(name)[phase][when]) for when in ("before", "after"))
    assert {degree for degree in after if after[degree] > before.get(degree, 0)} == degrees
    assert run(name)[phase]["after"]["fallbacks"] == {}


def test_single_rows_are_padded_and_counted(run: Run) -> None:
    """n = 1 < SP: the other ranks compute a row of padding, which reaches no cache."""
    found = run(THREE_MODES)["always"]
    assert found["after"]["padTokens"] - found["before"]["padTokens"] >= 3 * 12


@pytest.mark.parametrize("name", ENGINES)
def test_alternating_changes_the_degree_at_every_step(run: Run, name: str) -> None:
    found = run(name)["every other"]
    steps = found["after"]["step"] - found["before"]["step"]
    assert found["after"]["transitions"] - found["before"]["transitions"] >= steps - 1


@pytest.mark.parametrize("name", ENGINES)
def test_every_rank_confirms_a_schedule_at_the_same_step(run: Run, name: str) -> None:
    for phase, found in run(name).items():
        if "confirmed" in found:
            assert phase != "start"
            ranks = found["confirmed"]
            assert [rank["rank"] for rank in ranks] == list(range(len(ranks)))
            assert len({(rank["generation"], rank["step"]) for rank in ranks}) == 1


@pytest.mark.parametrize("name", ENGINES)
def test_every_degree_is_timed_before_the_first_step(run: Run, name: str) -> None:
    start = run(name)["start"]
    assert start["overlay"] == {"active": True, "reason": None}
    assert start["step"] == 0
    calibration = start["calibration"]
    loaded = {f"{each['sequence']}x{each['tensor']}" for each in start["reports"]}
    assert {each["state"] for each in start["reports"]} == {"Loaded"}
    assert set(calibration["curves"]) == loaded
    assert len(loaded) == (2 if name == "overlay 2x1" else 3)
    assert calibration["sizes"][0] == 1
    assert all(len(c) == len(calibration["sizes"]) and min(c) > 0 for c in calibration["curves"].values())
    assert {layer["written"] for rank in start["cache"] for layer in rank} == {0}  # nothing but real steps writes


@pytest.mark.parametrize("name", ENGINES)
def test_calibration_chooses_the_first_schedule(run: Run, name: str) -> None:
    """No flag gave a threshold: more tokens run at more sequence parallelism, and each range can have a step."""
    start = run(name)["start"]
    assert start["schedule"]["generation"] == 0
    ranges = start["schedule"]["ranges"]
    bounds = [each["upToTokens"] for each in ranges[:-1]]
    assert bounds == sorted(set(bounds))
    assert all(bound < 192 for bound in bounds)
    assert [each["sequence"] for each in ranges] == sorted({each["sequence"] for each in ranges})
    curves, sizes = start["calibration"]["curves"], start["calibration"]["sizes"]
    last = f"{ranges[-1]['sequence']}x{ranges[-1]['tensor']}"
    assert curves[last][-1] == min(curve[-1] for curve in curves.values()), sizes


@pytest.mark.full  # a served engine builds one each time
def test_a_degree_is_built_while_requests_run_and_none_of_them_changes(run: Run) -> None:
    """Every prompt is under way, some in their prefill, some decoding; the steps after it run at the new degree."""
    found = run("overlay 2x2, weights once, then 4x1")
    built = found["built in mid-request"]
    assert [state["degree"]["state"] for state in built["built"]] == ["Loaded"] * 4
    assert len({(rank["generation"], rank["step"]) for rank in built["built"]}) == 1
    assert built["tokens"] == run("stock TP=4")["stock"]["tokens"]
    assert largest_difference(built["logprobs"], run("stock TP=4")["stock"]["logprobs"]) < CLOSE
    steps = steps_by_degree(built["after"])
    assert steps["4x1"] == built["after"]["step"] - built["built"][0]["step"]
    assert built["after"]["fallbacks"] == {}
    calibration = built["after"]["calibration"]
    assert len(calibration["curves"]["4x1"]) == len(calibration["sizes"])


@pytest.mark.full
def test_a_degree_for_which_memory_lacks_needs_a_restart(run: Run) -> None:
    for answer in run("overlay 2x2, weights once, then 4x1")["without memory"]["built"]:
        assert answer["degree"]["state"] == "NeedsRestart"
        assert "of memory for it and 512 MiB beside, and has 0 MiB" in answer["degree"]["reason"]


def answers(found: dict[str, Any]) -> list[Any]:
    return [found[key] for key in ("tokens", "logprobs", "prompt logprobs")]


def largest_difference(one: list[list[float]], other: list[list[float]]) -> float:
    return max(abs(a - b) for x, y in zip(one, other, strict=True) for a, b in zip(x, y, strict=True))


def steps_by_degree(stats: dict[str, Any]) -> dict[str, int]:
    return {degree: totals["steps"] for degree, totals in stats["degrees"].items()}
