"""One engine on a GPU, in a process of its own: `case.py NAME MODEL ANSWER.json`. Greedy tokens, counts, curves.

Needs tests/engine/serving and tests/engine/matrix on PYTHONPATH; session.py sets it.
"""

import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batches import (
    AROUND,
    BATCHED_TOKENS,
    DECODES,
    KINDS,
    KINDS_BLOCK,
    STOCK_GRAPHS,
    ask,
    asked_in,
    core_of,
    counted,
    generate,
)
from phases import ALWAYS, ALWAYS_2X2, EVERY_OTHER, MIXED, NEVER, alternate, schedule, stop_alternating

LIVE = "live changes"
BUILT = "2x2, built while it served"
THRESHOLD = 32
DRAFT_TOKENS = 3
STOCK = "stock"
LLAMA, FP8, EAGLE, MOE = "llama", "fp8", "eagle", "qwen3_moe"  # what serves; all but the last are tiny Llamas
# A phase is a schedule, or what changes it, and a batch of requests (batches.ANSWERS).
PHASES = {
    STOCK: (STOCK, STOCK + AROUND),
    "2x1": (NEVER, NEVER + AROUND, ALWAYS, ALWAYS + AROUND, MIXED, EVERY_OTHER, LIVE),
    "4x1": (NEVER, ALWAYS, ALWAYS + AROUND, MIXED, EVERY_OTHER),
    "4x1+2x2": (ALWAYS, ALWAYS + AROUND, ALWAYS_2X2, ALWAYS_2X2 + AROUND, EVERY_OTHER),
    "2x2": (ALWAYS, ALWAYS + AROUND, MIXED, EVERY_OTHER),
    "8x1": (NEVER, ALWAYS, ALWAYS + AROUND, EVERY_OTHER),
    "4x2+2x4": (ALWAYS, ALWAYS + AROUND, "always 2x4", "always 2x4" + AROUND, EVERY_OTHER),
}
FURTHER = {
    "stock TP=2 graphs float32": (STOCK + DECODES, STOCK + KINDS),
    "stock TP=2 graphs bfloat16": (STOCK + DECODES,),
    "stock TP=4 graphs float32": (STOCK + KINDS,),
    "2x1 graphs float32": (NEVER + DECODES, ALWAYS + DECODES, ALWAYS + KINDS, EVERY_OTHER + KINDS),
    "2x1 graphs bfloat16": (NEVER + DECODES, ALWAYS + DECODES),
    "4x1 graphs float32": (BUILT, ALWAYS + KINDS, EVERY_OTHER + KINDS),
    "4x1 graphs bfloat16": (BUILT,),
    "4x1 graphs float32 qwen3_moe": (BUILT,),
    "4x1 graphs bfloat16 qwen3_moe": (BUILT,),
}
GENERATIONS = 10_000  # of schedules for each phase, so that none is older than one before


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

    def __str__(self) -> str:
        return " ".join((self.engine, self.mode, self.dtype, *([] if self.model == LLAMA else [self.model])))

    @property
    def is_stock(self) -> bool:
        """Is it vLLM without our engine."""
        return self.engine.startswith(STOCK)

    @property
    def stock(self) -> "Case":
        """The engine whose answers this one's are compared with: of as many ranks, dtype and model the same."""
        return self.stock_of(self.gpus)

    def stock_of(self, gpus: int) -> "Case":
        """Stock vLLM of so many ranks, as session.CASES has it: with graphs, on one GPU without but in fp8."""
        mode = "eager" if gpus == 1 and self.model != FP8 else "graphs"
        return Case(f"{STOCK} TP={gpus}", mode, self.dtype, self.model)

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

    @property
    def phases(self) -> tuple[str, ...]:
        """What it is asked for, in that order: what takes longest, and what an engine may die of, costs no other phase
        its answers."""
        phases = PHASES[STOCK if self.is_stock else self.engine] + FURTHER.get(str(self), ())
        return tuple(sorted(phases, key=lambda phase: (phase.endswith(KINDS), phase == LIVE)))

    @property
    def live_changes(self) -> int:
        """A thousand where the engine is as it comes; a dozen engines that share the GPUs take a minute for 200."""
        return 1000 if self.model == LLAMA and self.mode == "graphs" else 200


def draft_of(model: Path) -> Path:
    """Where the EAGLE draft of a model lies, if it has one."""
    return model / "draft"


def start(case: Case, model: Path) -> Any:
    """The case's engine."""
    from vllm import LLM

    options: dict[str, Any] = {}
    if case.model == EAGLE:
        drafts = {"method": "eagle", "model": str(draft_of(model)), "num_speculative_tokens": DRAFT_TOKENS}
        options["speculative_config"] = drafts
    if any(phase.endswith(KINDS) for phase in case.phases):
        options["block_size"] = KINDS_BLOCK
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
        disable_log_stats=False,  # preemptions and drafts are counted there
        structured_outputs_config={"backend": "xgrammar", "disable_any_whitespace": True},  # else JSON is mostly blanks
        seed=0,
        **options,
    )


def is_async(llm: Any) -> bool:
    """Whether the engine core schedules a step while the one before is computed."""
    core = core_of(llm)
    return bool(core.vllm_config.scheduler_config.async_scheduling) and core.batch_queue is not None


def run_live(llm: Any, case: Case, first_generation: int) -> dict[str, Any]:
    """Change the schedule after every step, under load, until so many have been applied. -> the answers of all rounds.

    In flight at a change: with async scheduling `step` returns when step N's tokens are there, and N + 1 was sent to
    the ranks before it waited for them (vLLM's core, `step_with_batch_queue`). A rank takes what it is sent in one
    order (multiproc executor, `worker_busy_loop`): it has launched N + 1 by the old schedule when it takes the change,
    and its GPU may still compute; its answer follows that step's tokens. So each change lies between N + 1 and N + 2 on
    every rank, which is what `step` in the confirmations says.
    """
    generation = first_generation
    agreed: list[bool] = []
    in_flight: list[bool] = []

    def change() -> None:
        nonlocal generation
        generation += 1
        phase = (NEVER, ALWAYS, MIXED)[generation % 3]
        in_flight.append(bool(core_of(llm).batch_queue))
        document = schedule(phase, case.degrees[0], generation, THRESHOLD)
        ranks = llm.collective_rpc("shift_apply", args=(document,))
        agreed.append({(each["generation"], each["step"]) for each in ranks} == {(generation, ranks[0]["step"])})

    said: dict[str, Any] = {"tokens": [], "logprobs": []}
    while len(agreed) < case.live_changes:
        for what, of_requests in generate(llm, change).items():
            said[what] += of_requests
    counts = {"changes": len(agreed), "with a step in flight": sum(in_flight)}
    return said | counts | {"ranks agreed at every change": all(agreed)}


def run_built(llm: Any, generation: int) -> dict[str, Any]:
    """Build 2x2 between two steps of requests that run, and go on at it."""
    reports: list[Any] = []

    def build() -> None:
        if not reports:
            reports.extend(llm.collective_rpc("shift_build", args=(2,)))
            llm.collective_rpc("shift_apply", args=(schedule(ALWAYS_2X2, "4x1", generation, THRESHOLD),))

    return generate(llm, build) | {"built": reports[0]["degree"]}


def first_schedule(case: Case, phase: str, generation: int) -> dict[str, Any]:
    """The schedule that a phase begins with. A degree that it names is the one that always runs."""
    told = ALWAYS if phase == BUILT else phase.removesuffix(asked_in(phase))
    begins_as, _, degree = told.partition(" ") if told.startswith(ALWAYS) else (told, "", "")
    return schedule(begins_as, degree or case.degrees[0], generation, THRESHOLD)


def run(llm: Any, case: Case, phase: str, generation: int) -> dict[str, Any]:
    """The answers under one phase."""
    llm.collective_rpc("shift_apply", args=(first_schedule(case, phase, generation),))
    if phase == LIVE:
        return run_live(llm, case, generation)
    if phase == BUILT:
        return run_built(llm, generation + 1)
    if not phase.startswith(EVERY_OTHER):
        return ask(llm, asked_in(phase))
    llm.collective_rpc(alternate)
    said = ask(llm, asked_in(phase))
    llm.collective_rpc(stop_alternating)
    return said


def main(name: str, model: str, answer: Path) -> None:
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ["VLLM_ALLOW_INSECURE_SERIALIZATION"] = "1"
    case, began = Case.named(name), time.time()
    llm = start(case, Path(model))
    result: dict[str, Any] = {"start_seconds": round(time.time() - began, 1), "async": is_async(llm), "phases": {}}
    if not case.is_stock:
        result["at start"] = llm.collective_rpc("shift_stats")[0]
    for turn, phase in enumerate(case.phases, 1):
        llm.reset_prefix_cache()
        outcome: dict[str, Any] = {}
        with counted(llm, outcome):
            outcome |= ask(llm, asked_in(phase)) if case.is_stock else run(llm, case, phase, GENERATIONS * turn)
        if not case.is_stock:
            outcome["stats"] = llm.collective_rpc("shift_stats")[0]
        result["phases"][phase] = outcome
        unfinished = answer.with_suffix(".new")
        unfinished.write_text(json.dumps(result))
        unfinished.replace(answer)  # whole, whenever the session ends this process


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
