"""One engine's scenario, in a process of its own: scenarios.py NAME MODEL ANSWER.json, run by warm.py

Each phase generates greedy tokens under one schedule from an empty cache, and notes tokens, log-probabilities, what the
ranks counted and a digest of the KV cache.
"""

import itertools
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from phases import (
    ALWAYS,
    ALWAYS_2X2,
    EVERY_OTHER,
    MIXED,
    NEVER,
    THREE_RANGES,
    alternate,
    schedule,
    stop_alternating,
)

IN_MID_REQUEST = "in mid-request"  # the schedule changes after every engine step
BUILT = "built in mid-request"  # a schedule names a degree that is not loaded, while every prompt is under way
THOUSAND_CHANGES = "1,000 changes"  # as in mid-request, until 1,000 schedules were applied
CHANGES = 1000
THRESHOLD = 16
BATCHED_TOKENS = 192  # the longest prompt takes several chunks

# Prompts by their number of tokens: a step of one row, odd sums, several chunks, a shared prefix of full blocks.
LENGTHS = (1, 2, 7, 61, 130, 301, 500)
SHARED_PREFIX, SHARED_TAILS = 256, (1, 40, 41)

STOCK: dict[str, dict[str, Any]] = {f"stock TP={gpus}": {"gpus": gpus} for gpus in (1, 2, 4)}
OVERLAY: dict[str, dict[str, Any]] = {
    "overlay 2x1": {"degree": "2x1", "phases": (NEVER, ALWAYS, MIXED, EVERY_OTHER, IN_MID_REQUEST)},
    "1,000 changes": {"degree": "2x1", "phases": (THOUSAND_CHANGES,), "calibration": False},
    "1,000 changes, P=4": {
        "degree": "4x1",
        "further degrees": ["2x2"],
        "phases": (THOUSAND_CHANGES,),
        "calibration": False,
    },
    "4x1 and 2x2": {
        "degree": "4x1",
        "further degrees": ["2x2"],
        "phases": (NEVER, ALWAYS, ALWAYS_2X2, THREE_RANGES, EVERY_OTHER),
        "prefill": True,
    },
    # Weights stay as loaded, as on GPUs, so that both models can have them once.
    "overlay 2x1, weights once": {
        "degree": "2x1",
        "phases": (NEVER, ALWAYS, EVERY_OTHER),
        "worker": "unpacked_worker.UnpackedShiftWorker",
        "eager": False,
        "calibration": False,
    },
    "4x1 and 2x2, compiled, weights once": {
        "degree": "4x1",
        "further degrees": ["2x2"],
        "phases": (NEVER, ALWAYS, ALWAYS_2X2, EVERY_OTHER),
        "worker": "unpacked_worker.UnpackedShiftWorker",
        "eager": False,
    },
    "4x1 and 2x2, faulty": {
        "degree": "4x1",
        "further degrees": ["2x2"],
        "phases": (ALWAYS,),
        "worker": "faulty_worker.FaultyShiftWorker",
    },
    "overlay 2x2, weights once, then 4x1": {
        "degree": "2x2",
        "phases": (NEVER, ALWAYS, EVERY_OTHER, BUILT),
        "worker": "unpacked_worker.UnpackedShiftWorker",
    },
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
    options = {}
    if "degree" in case:
        sequence, tensor = map(int, case["degree"].split("x"))
        gpus = sequence * tensor
        shift = {
            "degree": case["degree"],
            "further_degrees": case.get("further degrees", []),
            "probe_share": 0.0,
            "calibration": case.get("calibration", True),
        }
        options = {
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
        num_gpu_blocks_override=128,  # else the ranks clear and sum up a GiB each in every phase
        enable_prefix_caching=True,
        seed=0,
        **options,
    )


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
    """Runs on each rank: bytes of the host's parameters inside and outside of the first overlay's tensors, and of
    those; and of the further overlays' tensors that lie in neither."""
    first, *further = [overlay._model for overlay in worker._switch._overlays.values()]
    overlay = {p.untyped_storage().data_ptr(): p.nbytes for p in first.parameters()}
    counted = {"overlay": sum(overlay.values()), "shared": 0, "host alone": 0}
    for parameter in worker.model_runner.get_model().parameters():
        counted["shared" if parameter.untyped_storage().data_ptr() in overlay else "host alone"] += parameter.nbytes
    of_host = {p.untyped_storage().data_ptr() for p in worker.model_runner.get_model().parameters()}
    alone = [p for model in further for p in model.parameters() if p.untyped_storage().data_ptr() not in overlay]
    counted["further alone"] = sum(p.nbytes for p in alone if p.untyped_storage().data_ptr() not in of_host)
    return counted


def note_cache(worker: Any, name: str, request: str) -> None:
    """Runs on each rank: keep the blocks of a running request, of every layer, in the order of its tokens."""
    runner = worker.model_runner
    table = runner.input_batch.block_table[0]
    row = next(index for key, index in runner.input_batch.req_id_to_index.items() if key.startswith(request))
    blocks = table.block_table.np[row, : table.num_blocks_per_row[row]].tolist()
    noted = worker.__dict__.setdefault("noted_caches", {})
    noted[name] = [
        cache[:, blocks].clone() if cache.shape[0] == 2 else cache[blocks].clone() for cache in runner.kv_caches
    ]


def compare_caches(worker: Any) -> dict[str, list[dict[str, float]]]:
    """Runs on each rank: by degree and layer, the largest number of the noted cache and the largest difference from
    the one of 1 x P."""
    noted = worker.noted_caches
    return {
        name: [
            {"largest": float(cache.abs().max()), "difference": float((cache - of_stock).abs().max())}
            for cache, of_stock in zip(caches, noted[str(worker._full)], strict=True)
        ]
        for name, caches in noted.items()
    }


def prefill_at(llm: Any, degree: str, generation: int) -> None:
    """Prefill one prompt in chunks at one degree alone, and have each rank note its cache."""
    from vllm import SamplingParams

    llm.reset_prefix_cache()
    llm.collective_rpc(clear_cache)
    llm.collective_rpc("shift_apply", args=(schedule(ALWAYS, degree, generation, THRESHOLD),))
    engine, prompt = llm.llm_engine, token_prompts()[LENGTHS.index(301)]
    engine.add_request("prefill", {"prompt_token_ids": prompt}, SamplingParams(temperature=0, max_tokens=4))
    while not engine.step():  # a step gives an output once the prompt is prefilled
        pass
    llm.collective_rpc(note_cache, args=(degree, "prefill"))
    while engine.has_unfinished_requests():
        engine.step()


def lack_memory(worker: Any) -> None:
    """Runs on each rank: a degree that is asked for finds none."""
    from shift_engine.compat import memory

    worker.free_bytes = memory.free_bytes
    memory.free_bytes = lambda: 0


def have_memory(worker: Any) -> None:
    """Runs on each rank: as if the engine had been started anew, with memory."""
    from shift_engine.compat import memory
    from shift_engine.degree import Degree

    memory.free_bytes = worker.free_bytes
    for degree in (Degree(4, 1), Degree(2, 2)):
        if worker._degrees.report(degree).state != "Loaded":
            worker._degrees._reports[degree] = worker._degrees._first_report(degree)


def generate(llm: Any, between_steps: Any = None) -> dict[str, Any]:
    """Greedy tokens and log-probabilities of every prompt, and the log-probabilities of one prompt's own tokens.

    All prompts at once; then the first one alone, whose every step has a single row.
    """
    from vllm import SamplingParams

    engine, prompts = llm.llm_engine, token_prompts()
    outputs: dict[int, Any] = {}
    for batch in ([*enumerate(prompts)], [(len(prompts), prompts[0])]):
        for i, ids in batch:
            own = 1 if len(ids) == 61 else None
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


class BuildInMidRequest:
    """The fifth call has the ranks build 4x1 and run at it: by then every prompt is under way, none is done."""

    def __init__(self, llm: Any) -> None:
        self._llm = llm
        self._calls = 0
        self.built: list[dict[str, Any]] = []

    def __call__(self) -> None:
        self._calls += 1
        if self._calls == 5:
            self.built = self._llm.collective_rpc("shift_build", args=(4,))
            self._llm.collective_rpc("shift_apply", args=(schedule(ALWAYS, "4x1", 1000, THRESHOLD),))


class ScheduleChanges:
    """A call hands the ranks another schedule, each of these phases' in turn, and notes what they confirmed."""

    def __init__(self, llm: Any, degree: str, phases: Sequence[str]) -> None:
        self._llm, self._degree, self._phases = llm, degree, phases
        self._generations = itertools.count(1000)
        self.count = 0
        self.disagreements: list[list[dict[str, int]]] = []  # ranks that differed in generation or step
        self.unapplied: list[int] = []  # generations that a rank did not confirm

    def __call__(self) -> None:
        generation = next(self._generations)
        phase = self._phases[generation % len(self._phases)]
        document = schedule(phase, self._degree, generation, THRESHOLD)
        ranks = self._llm.collective_rpc("shift_apply", args=(document,))
        self.count += 1
        if len({(rank["generation"], rank["step"]) for rank in ranks}) != 1:
            self.disagreements.append(ranks)
        if any(rank["generation"] != generation for rank in ranks):
            self.unapplied.append(generation)


def _chosen(ids: Any, logprobs: Any) -> list[float]:
    return [each[token].logprob for token, each in zip(ids, logprobs, strict=True)]


def play(name: str, model: str) -> dict[str, Any]:
    """All phases of a scenario."""
    llm = start(name, model)
    if name in STOCK:
        llm.collective_rpc(clear_cache)
        return {"stock": generate(llm) | {"cache": llm.collective_rpc(cache_digest)}}
    case = OVERLAY[name]
    found: dict[str, Any] = {}
    found["start"] = llm.collective_rpc("shift_stats")[0] | {"cache": llm.collective_rpc(cache_digest)}
    if "weights once" in name:
        found["start"]["tensors"] = llm.collective_rpc(weight_tensors)
    for generation, phase in enumerate(case["phases"], start=1):
        llm.reset_prefix_cache()
        llm.collective_rpc(clear_cache)
        ranks = llm.collective_rpc("shift_apply", args=(schedule(phase, case["degree"], generation, THRESHOLD),))
        before = llm.collective_rpc("shift_stats")[0]
        between: ScheduleChanges | None = None
        building: BuildInMidRequest | None = None
        if phase == EVERY_OTHER:
            llm.collective_rpc(alternate)
        if phase == BUILT:
            llm.collective_rpc(lack_memory)
            found["without memory"] = {"built": llm.collective_rpc("shift_build", args=(4,))}
            llm.collective_rpc(have_memory)
            building = BuildInMidRequest(llm)
        if phase in (IN_MID_REQUEST, THOUSAND_CHANGES):
            three_modes = "further degrees" in case
            phases = (NEVER, ALWAYS_2X2, ALWAYS, THREE_RANGES) if three_modes else (NEVER, MIXED, ALWAYS)
            between = ScheduleChanges(llm, case["degree"], phases)
        answer = generate(llm, between or building)
        others = 0
        while phase == THOUSAND_CHANGES and between is not None and between.count < CHANGES:
            llm.reset_prefix_cache()
            again = generate(llm, between)
            others += again["tokens"] != answer["tokens"]
        if building is not None:
            answer["built"] = building.built
            answer["tensors"] = llm.collective_rpc(weight_tensors)
        if between is not None:
            answer["runs with other tokens"] = others
            answer["changes"] = {
                "count": between.count,
                "disagreements": between.disagreements,
                "unapplied": between.unapplied,
            }
        found[phase] = answer | {
            "confirmed": ranks,
            "cache": llm.collective_rpc(cache_digest),
            "before": before,
            "after": llm.collective_rpc("shift_stats")[0],
        }
        llm.collective_rpc(stop_alternating)
    if case.get("prefill"):
        for generation, degree in enumerate(("1x4", "2x2", "4x1"), start=100):
            prefill_at(llm, degree, generation)
        found["caches"] = {"after a prefill": llm.collective_rpc(compare_caches)}
    return found


def main() -> None:
    """The process."""
    os.environ["VLLM_ALLOW_INSECURE_SERIALIZATION"] = "1"  # functions to the ranks, in tests only
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # the scheduler in this process: the same steps in every run
    import torch
    import unpacked_worker  # noqa: F401  so that no rank has to

    name, model, answer = sys.argv[1:]
    case = STOCK.get(name) or OVERLAY[name]
    # vLLM compiles parts of its sampler even in eager engines, anew in each rank (as in matrix/play.py).
    torch.compiler.set_stance("force_eager" if case.get("eager", True) else "default")
    Path(answer).write_text(json.dumps(play(name, model)))


if __name__ == "__main__":
    main()
