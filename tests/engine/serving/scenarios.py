"""One engine's scenario, in a process of its own: python scenarios.py NAME MODEL ANSWER.json

Each phase generates greedy tokens under one schedule from an empty cache, and notes tokens, log-probabilities, what the
ranks counted and a digest of the KV cache.
"""

import itertools
import json
import os
import sys
from pathlib import Path
from typing import Any

NEVER, ALWAYS, MIXED = "never", "always", "mixed"  # is the large degree run
EVERY_OTHER = "every other"  # steps alternate by force
IN_MID_REQUEST = "in mid-request"  # the schedule changes after every engine step
BATCHED_TOKENS = 192  # the longest prompt takes several chunks

# Prompts by their number of tokens: a step of one row, odd sums, several chunks, a shared prefix of full blocks.
LENGTHS = (1, 2, 7, 61, 130, 301, 500)
SHARED_PREFIX, SHARED_TAILS = 256, (1, 40, 41)

STOCK: dict[str, dict[str, Any]] = {"stock TP=1": {"gpus": 1}, "stock TP=2": {"gpus": 2}}
OVERLAY: dict[str, dict[str, Any]] = {
    "overlay 2x1": {"degree": "2x1", "phases": (NEVER, ALWAYS, MIXED, EVERY_OTHER, IN_MID_REQUEST)},
    "overlay 4x1": {"degree": "4x1", "phases": (ALWAYS, EVERY_OTHER)},
    "overlay 2x2, compiled": {"degree": "2x2", "phases": (NEVER, ALWAYS, EVERY_OTHER), "eager": False},
    # Weights stay as loaded, as on GPUs, so that both models can have them once.
    "overlay 2x1, weights once": {
        "degree": "2x1",
        "phases": (NEVER, ALWAYS, EVERY_OTHER),
        "worker": "unpacked_worker.UnpackedShiftWorker",
        "eager": False,
    },
    "overlay 2x2, weights once": {
        "degree": "2x2",
        "phases": (NEVER, ALWAYS, EVERY_OTHER),
        "worker": "unpacked_worker.UnpackedShiftWorker",
    },
    # vLLM on CPU cannot compute prompt log-probabilities with LoRA.
    "LoRA": {"degree": "2x1", "phases": (ALWAYS,), "options": {"enable_lora": True}, "prompt logprobs": False},
}


def token_prompts() -> list[list[int]]:
    """Token ids that look random and are always the same."""

    def ids(count: int, seed: int) -> list[int]:
        return [3 + (seed * 7919 + i * i * 31 + i * 17) % 500 for i in range(count)]

    prefix = ids(SHARED_PREFIX, 99)
    return [ids(n, n) for n in LENGTHS] + [prefix + ids(n, n) for n in SHARED_TAILS]


def start(name: str, model: str) -> Any:
    """The scenario's engine."""
    from vllm import LLM

    case = STOCK.get(name) or OVERLAY[name]
    options = dict(case.get("options", {}))
    if "degree" in case:
        sequence, tensor = map(int, case["degree"].split("x"))
        gpus = sequence * tensor
        shift = {"degree": case["degree"], "probe_share": 0.0}
        options |= {
            "worker_cls": case.get("worker", "shift_engine.worker.ShiftWorker"),
            "additional_config": {"shift_parallel": shift},
        }
    else:
        gpus = case["gpus"]
    return LLM(
        model,
        tensor_parallel_size=gpus,
        distributed_executor_backend="mp",
        enforce_eager=case.get("eager", True),
        dtype="float32",
        max_num_batched_tokens=BATCHED_TOKENS,
        max_model_len=1024,
        max_num_seqs=8,
        block_size=32,
        kv_cache_memory_bytes=64 * 2**20,
        enable_prefix_caching=True,
        seed=0,
        **options,
    )


def schedule(phase: str, degree: str, generation: int) -> dict[str, Any]:
    """The schedule document of a phase."""
    sequence, tensor = map(int, degree.split("x"))
    large, full = {"sequence": sequence, "tensor": tensor}, {"sequence": 1, "tensor": sequence * tensor}
    two = [{"upToTokens": 16, **full}, large]
    ranges = {NEVER: [full], ALWAYS: [large], MIXED: two, EVERY_OTHER: two, IN_MID_REQUEST: two}[phase]
    return {"generation": generation, "ranges": ranges}


def alternate(worker: Any) -> None:
    """Runs on each rank: from now on steps alternate between the two degrees."""
    ledger, full, large = worker._ledger, worker._full, worker._large

    def wanted(tokens: int) -> Any:
        ledger.step += 1
        return large if ledger.step % 2 else full

    ledger.wanted = wanted


def stop_alternating(worker: Any) -> None:
    """Runs on each rank: the schedule decides again."""
    worker._ledger.__dict__.pop("wanted", None)


def clear_cache(worker: Any) -> None:
    """Runs on each rank: zero the KV cache, so that the digest shows what a phase wrote."""
    for cache in worker.model_runner.kv_caches:
        cache.zero_()


def cache_digest(worker: Any) -> list[dict[str, Any]]:
    """Runs on each rank: per layer, how many numbers are not zero, their sum and their sum of magnitudes."""
    return [
        {
            "written": int((cache != 0).sum()),
            "sum": float(cache.double().sum()),
            "magnitude": float(cache.double().abs().sum()),
        }
        for cache in worker.model_runner.kv_caches
    ]


def weight_tensors(worker: Any) -> dict[str, int]:
    """Runs on each rank: bytes of the host's parameters inside and outside of the overlay's tensors, and of those."""
    model = worker._switch._overlays[worker._large]._model
    overlay = {p.untyped_storage().data_ptr(): p.nbytes for p in model.parameters()}
    counted = {"overlay": sum(overlay.values()), "shared": 0, "host alone": 0}
    for parameter in worker.model_runner.get_model().parameters():
        counted["shared" if parameter.untyped_storage().data_ptr() in overlay else "host alone"] += parameter.nbytes
    return counted


def generate(llm: Any, between_steps: Any = None, *, prompt_logprobs: bool = True) -> dict[str, Any]:
    """Greedy tokens and log-probabilities of every prompt, and the log-probabilities of one prompt's own tokens.

    All prompts at once; then the first one alone, whose every step has a single row.
    """
    from vllm import SamplingParams

    engine, prompts = llm.llm_engine, token_prompts()
    outputs: dict[int, Any] = {}
    for batch in ([*enumerate(prompts)], [(len(prompts), prompts[0])]):
        for i, ids in batch:
            own = 1 if prompt_logprobs and len(ids) == 61 else None
            wanted = SamplingParams(temperature=0, max_tokens=12, ignore_eos=True, logprobs=1, prompt_logprobs=own)
            engine.add_request(str(i), {"prompt_token_ids": ids}, wanted)
        while engine.has_unfinished_requests():
            for output in engine.step():
                if output.finished:
                    outputs[int(output.request_id)] = output
            if between_steps is not None:
                between_steps()
    ordered = [outputs[i] for i in sorted(outputs)]
    with_own = [output for output in ordered if output.prompt_logprobs]
    return {
        "tokens": [list(o.outputs[0].token_ids) for o in ordered],
        "logprobs": [_chosen(o.outputs[0].token_ids, o.outputs[0].logprobs) for o in ordered],
        "prompt logprobs": [_chosen(o.prompt_token_ids[1:], o.prompt_logprobs[1:]) for o in with_own],
        "cached tokens": sum(o.num_cached_tokens or 0 for o in ordered),
    }


def schedule_changes(llm: Any, degree: str) -> Any:
    """-> a call that hands the ranks another schedule, never and always in turn."""
    generations = itertools.count(1000)

    def change() -> None:
        generation = next(generations)
        llm.collective_rpc("shift_apply", args=(schedule((NEVER, ALWAYS)[generation % 2], degree, generation),))

    return change


def _chosen(ids: Any, logprobs: Any) -> list[float]:
    return [each[token].logprob for token, each in zip(ids, logprobs, strict=True)]


def play(name: str, model: str) -> dict[str, Any]:
    """All phases of a scenario."""
    llm = start(name, model)
    if name in STOCK:
        llm.collective_rpc(clear_cache)
        return {"stock": generate(llm) | {"cache": llm.collective_rpc(cache_digest)}}
    case, found = OVERLAY[name], {}
    found["start"] = llm.collective_rpc("shift_stats")[0] | {"cache": llm.collective_rpc(cache_digest)}
    if "worker" in case:
        found["start"]["tensors"] = llm.collective_rpc(weight_tensors)
    for generation, phase in enumerate(case["phases"], start=1):
        llm.reset_prefix_cache()
        llm.collective_rpc(clear_cache)
        ranks = llm.collective_rpc("shift_apply", args=(schedule(phase, case["degree"], generation),))
        before = llm.collective_rpc("shift_stats")[0]
        between = None
        if phase == EVERY_OTHER:
            llm.collective_rpc(alternate)
        if phase == IN_MID_REQUEST:
            between = schedule_changes(llm, case["degree"])
        found[phase] = generate(llm, between, prompt_logprobs=case.get("prompt logprobs", True)) | {
            "confirmed": ranks,
            "cache": llm.collective_rpc(cache_digest),
            "before": before,
            "after": llm.collective_rpc("shift_stats")[0],
        }
        llm.collective_rpc(stop_alternating)
    return found


def main() -> None:
    """The process."""
    os.environ["VLLM_ALLOW_INSECURE_SERIALIZATION"] = "1"  # functions to the ranks, in tests only
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # the scheduler in this process: the same steps in every run
    name, model, answer = sys.argv[1:]
    Path(answer).write_text(json.dumps(play(name, model)))


if __name__ == "__main__":
    main()
