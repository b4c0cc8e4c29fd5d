"""What choosing, counting and timing cost a step of the shift engine, beside the step itself. Real vLLM on CPU, P=2.

    .venv/engine/bin/python benchmarks/engine_overhead.py [--write]

Each rank's `execute_model` is timed twice, around the shift engine's and around stock vLLM's inside it; the
difference is the schedule's choice, the switch, the step's clock and the note for the counters, less what the timers
find where nothing lies between them. Steps are counted, and refine the curves, many together: that is timed apart and
spread over them. Then `shift_stats`, which rank 0 answers every 2 s, between steps. All in CPU seconds of the rank's
thread, so that other work on the machine does not count. A GPU's clock (two events a step) is not in here:
`engine.py --one-gpu` measures that against stock vLLM. --write puts the table into docs/benchmarks.md.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import page

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(CHECKOUT / "worker_image"))

from cpu_environment import cpu_environment  # noqa: E402

BEGIN, END = "the table begins\n", "the table ends"
REQUESTS, TOKENS_IN, TOKENS_OUT = 8, 60, 100
BATCHED_TOKENS = 256
STATS_SECONDS = 2.0  # shift_engine.endpoint's
STATS_CALLS = 50
TARGET_PERCENT = 0.5
DECODE_SECONDS = 3.37e-3  # of an 8B model, one request, on two H200: engine.py's table


def main() -> int:
    """The command line: sets the engine's environment, then measures in a process that has it."""
    parser = argparse.ArgumentParser(description="Time the shift engine's own part of a step.")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    parser.add_argument("--engine", action="store_true", help=argparse.SUPPRESS)  # the process of the engine
    options = parser.parse_args()
    if options.engine:
        print(table(measure()))
        return 0
    more = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "PYTHONPATH": str(Path(__file__).parent)}
    run = subprocess.run(
        [sys.executable, __file__, "--engine"],
        env=cpu_environment() | more,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    text = run.stdout.partition(BEGIN)[2].partition(END)[0]  # vLLM logs before and after it
    page.show(__file__, text, write=options.write)
    return 0


def measure() -> dict[str, Any]:
    """-> rank 0's figures by degree: steps, and their medians in seconds; and of `shift_stats`."""
    from vllm import LLM, SamplingParams

    with tempfile.TemporaryDirectory() as directory:
        script = CHECKOUT / "examples" / "tiny_model.py"
        subprocess.run([sys.executable, script, directory, "--kv-heads", "2"], check=True, stdout=subprocess.DEVNULL)
        llm = LLM(
            directory,
            tensor_parallel_size=2,
            distributed_executor_backend="mp",
            worker_cls="engine_overhead_worker.TimedShiftWorker",
            additional_config={"shift_parallel": {"degree": "2x1"}},
            dtype="float32",
            enforce_eager=True,
            max_num_batched_tokens=BATCHED_TOKENS,
            max_model_len=512,
            num_gpu_blocks_override=64,
            disable_log_stats=True,
        )
        prompts = [
            {"prompt_token_ids": [3 + (i * 31 + n * 17) % 500 for n in range(TOKENS_IN)]} for i in range(REQUESTS)
        ]
        wanted = SamplingParams(temperature=0, max_tokens=TOKENS_OUT, ignore_eos=True, detokenize=False)

        def steps(*, stock: bool = False) -> dict[str, float]:
            llm.collective_rpc("begin", args=(stock,))
            llm.generate(prompts, wanted, use_tqdm=False)
            figures: dict[str, float] = llm.collective_rpc("figures")[0]
            return figures

        steps()  # warms up
        found: dict[str, Any] = {"timers": steps(stock=True)["own"]}
        for generation, sequence in enumerate((1, 2), start=1):
            ranges = [{"sequence": sequence, "tensor": 2 // sequence}]
            llm.collective_rpc("shift_apply", args=({"generation": generation, "ranges": ranges},))
            found[f"{sequence}x{2 // sequence}"] = steps()
        for _ in range(STATS_CALLS):
            llm.collective_rpc("shift_stats")
        return found | {"stats": llm.collective_rpc("stats_seconds")[0]}


def table(found: dict[str, Any]) -> str:
    """The table of docs/benchmarks.md."""
    load, stats, timers = os.getloadavg()[0], found.pop("stats"), found.pop("timers")
    lines = [
        BEGIN + f"{os.cpu_count()} cores, load average {load:.1f}; CPU time of rank 0's thread, medians. "
        f"The timers' own {timers * 1e6:.1f} µs are taken off.\n",
        "| every step at | steps | a step | of it the shift engine's | counting, spread over the steps | together |",
        "|---|---|---|---|---|---|",
    ]
    parts: list[float] = []
    for degree, figures in found.items():
        step, own, folding = figures["step"] - timers, figures["own"] - timers, figures["folding"]
        parts.append(own + folding)
        lines.append(
            f"| {degree} | {figures['steps']} | {step * 1e3:.2f} ms | {own * 1e6:.1f} µs | {folding * 1e6:.1f} µs "
            f"| {parts[-1] * 1e6:.1f} µs, {100 * parts[-1] / step:.2f} % |"
        )
    least, most = (100 * part / DECODE_SECONDS for part in (min(parts), max(parts)))
    lines.append(
        f"\nOf a step of {DECODE_SECONDS * 1e3:.2f} ms that is {least:.2f} % and {most:.2f} %; {TARGET_PERCENT} % of "
        f"one of {max(parts) / TARGET_PERCENT * 100 * 1e3:.1f} ms. `shift_stats`, every {STATS_SECONDS:g} s: "
        f"{stats * 1e6:.0f} µs, {100 * stats / STATS_SECONDS:.3f} % of the time."
    )
    return "\n".join(lines) + "\n" + END


if __name__ == "__main__":
    sys.exit(main())
