"""One engine on a GPU, in a process of its own: `case.py NAME MODEL ANSWER.json`. Greedy tokens, counts, curves.

Needs tests/engine/serving and tests/engine/matrix on PYTHONPATH; session.py sets it.
"""

import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kinds_of_request import speculation
from phases import ALWAYS, ALWAYS_2X2, EVERY_OTHER, MIXED, NEVER, alternate, schedule, stop_alternating
from shift_engine.capture_sizes import capture_sizes

LIVE = "live changes"
BUILT = "2x2, built while it served"
AROUND = ", around each capture size"
NEVER_AROUND, ALWAYS_AROUND, ALWAYS_2X2_AROUND = (each + AROUND for each in (NEVER, ALWAYS, ALWAYS_2X2))
BATCHED_TOKENS = 512
LENGTHS = (1, 2, 7, 61, 130, 301, 500, 900)
OUTPUT_TOKENS = 24
# Stock vLLM's, few, as a dozen engines share a GPU while they start; those of the shift engine follow from the largest.
STOCK_GRAPHS = [1, 2, 4, 8, 16, 64, 128]
# One row less, as many, and one more than each graph has of 1x2 and of 2x1, whose sizes include those of 4x1 and 8x1.
SIZES = sorted({*capture_sizes(1, STOCK_GRAPHS[-1]), *capture_sizes(2, BATCHED_TOKENS)})
LENGTHS_AROUND = [n for size in SIZES for n in (size - 1, size, size + 1)][:-1]
THRESHOLD = 32
LIVE_CHANGES = 200
STOCK = "stock"
STOCK_AROUND = STOCK + AROUND
LLAMA, FP8, EAGLE, MOE = "llama", "fp8", "eagle", "qwen3_moe"  # what serves; all but the last are the same tiny Llama
PHASES = {
    "2x1": (NEVER, NEVER_AROUND, ALWAYS, ALWAYS_AROUND, MIXED, EVERY_OTHER, LIVE),
    "4x1": (NEVER, ALWAYS, ALWAYS_AROUND, MIXED, EVERY_OTHER, BUILT),
    "4x1+2x2": (ALWAYS, ALWAYS_AROUND, ALWAYS_2X2, ALWAYS_2X2_AROUND, EVERY_OTHER),
    "2x2": (ALWAYS, ALWAYS_AROUND, MIXED, EVERY_OTHER),
    "8x1": (NEVER, ALWAYS, ALWAYS_AROUND, EVERY_OTHER),
}


@dataclass(frozen=True)
class Case:
    """`stock TP=2` or the degrees that are loaded at start, `4x1+2x2`; then `eager`, `graphs` or, as
    `--shift-graphs off` has it, `stock-graphs`; the dtype; and the model: "2x1 graphs bfloat16 fp8"."""

    engine: str
    mode: str
    dtype: str
    model: str

    @classmethod
    def named(cls, name: str) -> "Case":
        """The model may be left out."""
        words = name.removeprefix(f"{STOCK} ").split(" ")
        engine, mode, dtype, model = (*words, LLAMA)[:4]
        return cls(f"{STOCK} {engine}" if name.startswith(STOCK) else engine, mode, dtype, model)

    @property
    def is_stock(self) -> bool:
        """Is it vLLM without our engine."""
        return self.engine.startswith(STOCK)

    @property
    def gpus(self) -> int:
        """P: ranks, that is; they share one GPU."""
        if self.is_stock:
            return int(self.engine.partition("=")[2])
        sequence, tensor = map(int, self.degrees[0].split("x"))
        return sequence * tensor

    @property
    def degrees(self) -> list[str]:
        """Of the shift engine, the large steps' first."""
        return self.engine.split("+")


def prompts(lengths: Sequence[int]) -> list[list[int]]:
    return [[3 + (n * 7919 + i * i * 31 + i * 17) % 500 for i in range(n)] for n in lengths]


def start(case: Case, model: Path) -> Any:
    from vllm import LLM

    options: dict[str, Any] = speculation("EAGLE", model) if case.model == EAGLE else {}
    if case.is_stock:
        options["worker_cls"] = "shared_gpu_worker.SharedGpuWorker"
    else:
        options["worker_cls"] = "shared_gpu_worker.SharedGpuShiftWorker"
        large, *further = case.degrees
        graphs = "on" if case.mode == "graphs" else "off"
        ours = {"degree": large, "further_degrees": further, "probe_share": 0.0, "graphs": graphs}
        options["additional_config"] = {"shift_parallel": ours}
    return LLM(
        str(model),
        tensor_parallel_size=case.gpus,
        distributed_executor_backend="mp",
        disable_custom_all_reduce=True,
        enforce_eager=case.mode == "eager",
        compilation_config={} if case.mode == "eager" else {"cudagraph_capture_sizes": STOCK_GRAPHS},
        dtype=case.dtype,
        max_num_batched_tokens=BATCHED_TOKENS,
        max_model_len=1024,
        max_num_seqs=16,
        kv_cache_memory_bytes=256 * 2**20,
        gpu_memory_utilization=0.15 / case.gpus,
        seed=0,
        **options,
    )


def generate(llm: Any, between_steps: Any = None) -> dict[str, Any]:
    """All prompts at once. -> of each the greedy tokens and their log-probabilities."""
    from vllm import SamplingParams

    engine = llm.llm_engine
    wanted = SamplingParams(temperature=0, max_tokens=OUTPUT_TOKENS, ignore_eos=True, logprobs=0)
    for i, ids in enumerate(prompts(LENGTHS)):
        engine.add_request(str(i), {"prompt_token_ids": ids}, wanted)
    outputs: dict[int, Any] = {}
    while engine.has_unfinished_requests():
        for output in engine.step():
            if output.finished:
                outputs[int(output.request_id.split("-")[0])] = output.outputs[0]
        if between_steps is not None:
            between_steps()
    return answers([outputs[i] for i in sorted(outputs)])


def generate_around(llm: Any) -> dict[str, Any]:
    """One prompt after the other, so that each is a step of its own length. -> as `generate`, two tokens each."""
    from vllm import SamplingParams

    wanted = SamplingParams(temperature=0, max_tokens=2, ignore_eos=True, logprobs=0)
    asked = [{"prompt_token_ids": ids} for ids in prompts(LENGTHS_AROUND)]
    return answers([llm.generate([each], wanted, use_tqdm=False)[0].outputs[0] for each in asked])


def answers(said: Sequence[Any]) -> dict[str, Any]:
    """vLLM's outputs -> tokens and log-probabilities."""
    return {
        "tokens": [list(each.token_ids) for each in said],
        "logprobs": [
            [of[token].logprob for of, token in zip(each.logprobs, each.token_ids, strict=True)] for each in said
        ],
    }


def run_live(llm: Any, degree: str, first_generation: int) -> dict[str, Any]:
    """Change the schedule after every step, under load, until LIVE_CHANGES have been applied."""
    generation = first_generation
    confirmations: list[Any] = []

    def change() -> None:
        nonlocal generation
        generation += 1
        phase = (NEVER, ALWAYS, MIXED)[generation % 3]
        confirmations.append(llm.collective_rpc("shift_apply", args=(schedule(phase, degree, generation, THRESHOLD),)))

    said: dict[str, Any] = {}
    while len(confirmations) < LIVE_CHANGES:
        said = generate(llm, change)
    agreed = all(len({(c["generation"], c["step"]) for c in each}) == 1 for each in confirmations)
    return said | {"changes": len(confirmations), "ranks agreed at every change": agreed}


def run_built(llm: Any, generation: int) -> dict[str, Any]:
    """Build 2x2 between two steps of requests that run, and go on at it."""
    reports: list[Any] = []

    def build() -> None:
        if not reports:
            reports.extend(llm.collective_rpc("shift_build", args=(2,)))
            llm.collective_rpc("shift_apply", args=(schedule(ALWAYS_2X2, "4x1", generation, THRESHOLD),))

    return generate(llm, build) | {"built": reports[0]["degree"]}


def run(llm: Any, phase: str, degree: str, generation: int) -> dict[str, Any]:
    """The answers under one phase."""
    llm.reset_prefix_cache()
    begins_as = ALWAYS if phase == BUILT else phase.removesuffix(AROUND)
    llm.collective_rpc("shift_apply", args=(schedule(begins_as, degree, generation, THRESHOLD),))
    if phase.endswith(AROUND):
        return generate_around(llm)
    if phase == LIVE:
        return run_live(llm, degree, generation)
    if phase == BUILT:
        return run_built(llm, generation + 1)
    if phase == EVERY_OTHER:
        llm.collective_rpc(alternate)
    said = generate(llm)
    if phase == EVERY_OTHER:
        llm.collective_rpc(stop_alternating)
    return said


def main(name: str, model: str, answer: Path) -> None:
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ["VLLM_ALLOW_INSECURE_SERIALIZATION"] = "1"
    case, began = Case.named(name), time.time()
    llm = start(case, Path(model))
    result: dict[str, Any] = {"start_seconds": round(time.time() - began, 1), "phases": {}}
    if case.is_stock:
        result["phases"] = {STOCK: generate(llm), STOCK_AROUND: generate_around(llm)}
    else:
        result["at start"] = llm.collective_rpc("shift_stats")[0]
        for turn, phase in enumerate(PHASES[case.engine], 1):
            outcome = run(llm, phase, case.degrees[0], 1000 * turn)
            outcome["stats"] = llm.collective_rpc("shift_stats")[0]
            result["phases"][phase] = outcome
            answer.write_text(json.dumps(result))
    answer.write_text(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
