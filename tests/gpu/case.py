"""One engine on a GPU, in a process of its own: `case.py NAME MODEL ANSWER.json`. Greedy tokens, counts, curves.

Needs tests/engine/serving on PYTHONPATH, for phases.py; session.py sets it.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from phases import ALWAYS, EVERY_OTHER, MIXED, NEVER, alternate, schedule, stop_alternating

LIVE = "live changes"
LENGTHS = (1, 2, 7, 61, 130, 301, 500, 900)
OUTPUT_TOKENS = 24
THRESHOLD = 32
LIVE_CHANGES = 200

STOCK = {"stock TP=1": 1, "stock TP=2": 2, "stock TP=4": 4}
OVERLAY = {
    "2x1": (NEVER, ALWAYS, MIXED, EVERY_OTHER, LIVE),
    "4x1": (ALWAYS, MIXED, EVERY_OTHER),
    "2x2": (ALWAYS, MIXED, EVERY_OTHER),
    "8x1": (ALWAYS, EVERY_OTHER),
}


def prompts() -> list[list[int]]:
    return [[3 + (n * 7919 + i * i * 31 + i * 17) % 500 for i in range(n)] for n in LENGTHS]


def start(name: str, model: str) -> Any:
    """`stock TP=2` or `2x1`, then `eager` or `graphs`, then the dtype: "2x1 graphs bfloat16"."""
    from vllm import LLM

    what, mode, dtype = name.rsplit(" ", 2)
    options: dict[str, Any] = {}
    if what in STOCK:
        gpus = STOCK[what]
        options["worker_cls"] = "shared_gpu_worker.SharedGpuWorker"
    else:
        sequence, tensor = map(int, what.split("x"))
        gpus = sequence * tensor
        options["worker_cls"] = "shared_gpu_worker.SharedGpuShiftWorker"
        ours = {"degree": what, "probe_share": 0.0, "graphs": mode == "graphs"}
        options["additional_config"] = {"shift_parallel": ours}
    return LLM(
        model,
        tensor_parallel_size=gpus,
        distributed_executor_backend="mp",
        disable_custom_all_reduce=True,
        enforce_eager=mode == "eager",
        dtype=dtype,
        max_num_batched_tokens=512,
        max_model_len=1024,
        max_num_seqs=16,
        kv_cache_memory_bytes=256 * 2**20,
        gpu_memory_utilization=0.25 / gpus,
        seed=0,
        **options,
    )


def generate(llm: Any, between_steps: Any = None) -> list[list[int]]:
    from vllm import SamplingParams

    engine = llm.llm_engine
    wanted = SamplingParams(temperature=0, max_tokens=OUTPUT_TOKENS, ignore_eos=True)
    for i, ids in enumerate(prompts()):
        engine.add_request(str(i), {"prompt_token_ids": ids}, wanted)
    outputs: dict[int, list[int]] = {}
    while engine.has_unfinished_requests():
        for output in engine.step():
            if output.finished:
                outputs[int(output.request_id.split("-")[0])] = list(output.outputs[0].token_ids)
        if between_steps is not None:
            between_steps()
    return [outputs[i] for i in sorted(outputs)]


def run_live(llm: Any, degree: str, first_generation: int) -> dict[str, Any]:
    """Change the schedule after every step, under load, until LIVE_CHANGES have been applied."""
    generation = first_generation
    confirmations: list[Any] = []

    def change() -> None:
        nonlocal generation
        generation += 1
        phase = (NEVER, ALWAYS, MIXED)[generation % 3]
        confirmations.append(llm.collective_rpc("shift_apply", args=(schedule(phase, degree, generation, THRESHOLD),)))

    tokens = []
    while len(confirmations) < LIVE_CHANGES:
        tokens = generate(llm, change)
    agreed = all(len({(c["generation"], c["step"]) for c in each}) == 1 for each in confirmations)
    return {"tokens": tokens, "changes": len(confirmations), "ranks agreed at every change": agreed}


def main(name: str, model: str, answer: Path) -> None:
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ["VLLM_ALLOW_INSECURE_SERIALIZATION"] = "1"
    began = time.time()
    llm = start(name, model)
    what = name.rsplit(" ", 2)[0]
    result: dict[str, Any] = {"start_seconds": round(time.time() - began, 1), "phases": {}}
    if what in STOCK:
        result["phases"]["stock"] = {"tokens": generate(llm)}
    else:
        result["at start"] = llm.collective_rpc("shift_stats")[0]
        for generation, phase in enumerate(OVERLAY[what], 1):
            llm.reset_prefix_cache()
            llm.collective_rpc("shift_apply", args=(schedule(phase, what, 1000 * generation, THRESHOLD),))
            if phase == EVERY_OTHER:
                llm.collective_rpc(alternate)
            outcome = run_live(llm, what, 1000 * generation) if phase == LIVE else {"tokens": generate(llm)}
            if phase == EVERY_OTHER:
                llm.collective_rpc(stop_alternating)
            outcome["stats"] = llm.collective_rpc("shift_stats")[0]
            result["phases"][phase] = outcome
            answer.write_text(json.dumps(result))
    answer.write_text(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
