"""All that needs a GPU, in one go: `session.py OUT` runs each case in a process of its own and writes OUT/result.json.

A case that fails is reported and the next one runs; exit code 1 then, and where answers are not as they must be
(verdict.py). The ranks of an engine share one GPU, so times say nothing about speed. Where there are several GPUs the
cases take them in turn.
"""

import json
import os
import queue
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent.parent
TESTS = CHECKOUT / "tests" / "engine"
MODULES = [CHECKOUT / "worker_image", TESTS / "serving", TESTS / "matrix", HERE]  # there nothing of ours is installed
sys.path[:0] = map(str, MODULES)

from case import AROUND, STOCK, STOCK_AROUND, Case  # noqa: E402
from verdict import apart_until_they_differ, problems  # noqa: E402

CASE_SECONDS = 500
PARALLEL = 6  # engines at once on a GPU: a start is mostly imports and compilation, on one core each
FREE_ENOUGH = 0.05  # of a GPU's memory may be in use as a session begins; its engines share nine tenths
KERNELS = "kernels"
CASES = (  # what takes longest begins first
    "stock TP=8 graphs float32",
    "8x1 graphs float32",
    "2x1 graphs bfloat16 fp8",
    "stock TP=2 graphs bfloat16 fp8",
    "stock TP=1 graphs bfloat16 fp8",  # what 2x1 computes: one scale for each row of activations
    "2x1 graphs bfloat16",
    "2x1 stock-graphs bfloat16",  # where never is stock vLLM bit for bit
    "2x1 graphs float32",
    "4x1+2x2 graphs bfloat16",
    "4x1 graphs float32",
    "2x2 graphs float32",
    "8x1 eager float32",
    "stock TP=2 graphs float32",
    "stock TP=2 graphs bfloat16",
    "stock TP=4 graphs float32",
    "4x1 graphs bfloat16",
    "stock TP=4 graphs bfloat16",
    "4x1 graphs float32 qwen3_moe",
    "stock TP=4 graphs float32 qwen3_moe",
    "4x1 graphs bfloat16 qwen3_moe",
    "stock TP=4 graphs bfloat16 qwen3_moe",
    "2x1 graphs float32 eagle",
    "stock TP=2 graphs float32 eagle",
    "2x1 eager float32",
    "stock TP=1 eager float32",
    KERNELS,
)


def main(out: Path) -> int:
    out.mkdir(parents=True, exist_ok=True)
    budget = time.monotonic() + float(os.environ.get("SESSION_SECONDS", "3600"))
    wanted = os.environ.get("SESSION_CASES")  # in the order given
    chosen = wanted.split(",") if wanted else list(CASES)
    if unknown := sorted(set(chosen) - set(CASES)):
        print(f"SESSION_CASES: there is no {', '.join(unknown)}; there are {', '.join(CASES)}", file=sys.stderr)
        return 2
    gpu_memory = _gpu_memory()
    if taken := [gpu for gpu in gpu_memory if gpu.used > FREE_ENOUGH * gpu.total]:
        print("\n".join(f"{gpu}: end what runs there, nvidia-smi names it" for gpu in taken), file=sys.stderr)
        return 2
    path = ":".join(map(str, MODULES))
    environment = {**os.environ, "PYTHONPATH": f"{path}:{os.environ.get('PYTHONPATH', '')}"}
    gpus: queue.Queue[str] = queue.Queue()
    for turn in range(PARALLEL * len(gpu_memory)):
        gpus.put(str(turn % len(gpu_memory)))
    results: dict[str, Any] = {}

    def turn_of(name: str) -> None:
        gpu, left = gpus.get(), budget - time.monotonic()
        if left < 60:
            results[name] = {"failed": "not run: the time was used up", "phases": {}}
        else:
            seconds = min(CASE_SECONDS, left)
            results[name] = run(name, out, environment | {"CUDA_VISIBLE_DEVICES": gpu}, seconds)
        gpus.put(gpu)
        (out / "result.json").write_text(json.dumps(results))

    with ThreadPoolExecutor(max_workers=gpus.qsize()) as pool:
        list(pool.map(turn_of, chosen))
    wrong = list(problems(results))
    text = "\n".join([summary(results), *(f"WRONG: {problem}" for problem in wrong)])
    (out / "summary.txt").write_text(text)
    print(text)
    return 1 if wrong else 0


class GpuMemory(NamedTuple):
    """MiB of one GPU."""

    index: int
    used: int
    total: int

    def __str__(self) -> str:
        return f"GPU {self.index} has {self.used:,} of {self.total:,} MiB in use"


def _gpu_memory() -> list[GpuMemory]:
    command = ["nvidia-smi", "--query-gpu=index,memory.used,memory.total", "--format=csv,noheader,nounits"]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    return [GpuMemory(*map(int, line.split(","))) for line in found.stdout.splitlines()]


def run(name: str, out: Path, environment: dict[str, str], seconds: float) -> dict[str, Any]:
    plain = name.replace(" ", "_").replace("=", "")
    answer, log, model = (out.parent / f"{plain}{suffix}" for suffix in (".json", ".log", ".model"))
    began = time.monotonic()
    with log.open("w") as sink:
        if name == KERNELS:
            script = CHECKOUT / "benchmarks" / "engine_kernels.py"
            command = [sys.executable, script, "--quick", "--out", out / "kernels.md"]
        else:
            writing = [sys.executable, HERE / "write_model.py", Case.named(name).model, model]
            subprocess.run(writing, env=environment, stdout=sink, stderr=sink, check=False)
            command = [sys.executable, HERE / "case.py", name, model, answer]
        process = subprocess.Popen(
            command,
            env=environment, stdout=sink, stderr=sink, start_new_session=True,
        )  # fmt: skip
        try:
            code: int | str = process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            code = f"no end after {seconds:.0f} s"
        finally:
            subprocess.run(["pkill", "-KILL", "-s", str(process.pid)], check=False)
    result: dict[str, Any] = json.loads(answer.read_text()) if answer.exists() else {"phases": {}}
    result["seconds"] = round(time.monotonic() - began, 1)
    if code != 0:
        result["failed"] = str(code)
        lines = log.read_text(errors="replace").splitlines()
        errors = [line for line in lines if "Error" in line or "error" in line]
        print(f"== {name}: {code}\n" + "\n".join(errors[-6:]) + "\n--\n" + "\n".join(lines[-6:]), flush=True)
    print(f"{name}: {code}, {result['seconds']} s", flush=True)
    return result


def summary(results: dict[str, Any]) -> str:
    """Tokens of each phase against those of stock vLLM with the same model and dtype."""
    stock = {
        (Case.named(name), phase): said
        for name, result in results.items()
        for phase, said in result["phases"].items()
        if phase in (STOCK, STOCK_AROUND)
    }
    lines = []
    for name, result in results.items():
        for phase, said in result["phases"].items():
            case = Case.named(name)
            same_prompts = STOCK_AROUND if phase.endswith(AROUND) else STOCK
            equal = {
                f"TP={other.gpus}": compared(said, theirs)
                for (other, what), theirs in stock.items()
                if (other.dtype, other.model, what) == (case.dtype, case.model, same_prompts)
            }
            degrees = said.get("stats", {}).get("degrees", {})
            steps = {degree: totals.get("steps") for degree, totals in degrees.items()}
            more = {k: v for k, v in said.items() if k not in ("tokens", "logprobs", "stats")}
            lines.append(f"{name} | {phase} | {equal} | steps {steps} {more or ''}")
        at_start = result.get("at start", {})
        if at_start:
            degrees = [f"{each['sequence']}x{each['tensor']} {each['state']}" for each in at_start["reports"]]
            said = ", ".join(f"{what} {at_start[what]}" for what in ("weights", "overlay", "graphs"))
            lines.append(f"{name} | {said}, degrees {degrees}")
    return "\n".join(lines)


def compared(said: dict[str, Any], stock: dict[str, Any]) -> str:
    """How many prompts have the same tokens, and by how much the log-probabilities of those differ at most."""
    pairs = [*zip(said["tokens"], stock["tokens"], said["logprobs"], stock["logprobs"], strict=True)]
    same = [pair for pair in pairs if pair[0] == pair[1]]
    apart = max((apart_until_they_differ(*pair) for pair in same), default=0.0)
    return f"{len(same)}/{len(pairs)} ({apart:.0e})"


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
