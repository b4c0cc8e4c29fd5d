"""All that needs a GPU, in one go: `session.py OUT` runs each case in a process of its own and writes OUT/result.json.

A case that fails is reported and the next one runs; exit code 1 then, and where answers are not as they must be
(verdict.py). The ranks of an engine share one GPU, so times say nothing about speed. Where there are several GPUs the
cases take them in turn. SESSION_CASES names the cases to run, with commas between; SESSION_SECONDS is for all of them.
"""

import json
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, NamedTuple

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent.parent
TESTS = CHECKOUT / "tests" / "engine"
MODULES = [CHECKOUT / "worker_image", TESTS / "serving", TESTS / "matrix", HERE]  # there nothing of ours is installed
sys.path[:0] = map(str, MODULES)

from alike import pairs  # noqa: E402
from batches import asked_in  # noqa: E402
from case import STOCK, Case  # noqa: E402
from verdict import NOTHING_COUNTED, has_engine, not_compared, problems, steps_since  # noqa: E402

GPU_SECONDS = 2900  # for all cases on one GPU; two take half of it
CASE_SECONDS = 900  # a thousand live changes take 300 of them
LEAST_SECONDS = 60  # no engine starts sooner
PARALLEL = 6  # engines at once on a GPU: a start is mostly imports and compilation, on one core each
FREE_ENOUGH = 0.05  # of a GPU's memory may be in use as a session begins; its engines share nine tenths
KERNELS = "kernels"
UNSAID = ("tokens", "logprobs", "stats", "answers", "kinds")  # of a phase, in the summary
CASES = (  # what takes longest begins first; what says least that no other does is last
    "2x1 graphs float32",
    "2x1 graphs bfloat16",
    "2x1 eager float32",
    "stock TP=2 graphs float32",
    "stock TP=2 graphs bfloat16",
    "stock TP=8 graphs float32",
    "stock TP=8 graphs bfloat16",
    "8x1 graphs float32",
    "4x2+2x4 graphs bfloat16",
    "2x1 graphs bfloat16 fp8",
    "stock TP=2 graphs bfloat16 fp8",
    "stock TP=1 graphs bfloat16 fp8",  # what 2x1 computes: one scale for each row of activations
    "stock TP=4 graphs float32",
    "4x1 graphs float32",
    "2x1 graphs float32 eagle",
    "stock TP=2 graphs float32 eagle",
    "4x1 graphs float32 qwen3_moe",
    "stock TP=4 graphs float32 qwen3_moe",
    "4x1 graphs float32 eagle",
    "stock TP=4 graphs float32 eagle",
    "8x1 graphs bfloat16",
    "stock TP=4 graphs bfloat16",
    "4x1 graphs bfloat16",
    "4x1+2x2 graphs bfloat16",
    "4x1 graphs bfloat16 qwen3_moe",
    "stock TP=4 graphs bfloat16 qwen3_moe",
    "stock TP=4 graphs bfloat16 fp8",
    "4x1 graphs bfloat16 fp8",
    "stock TP=8 graphs bfloat16 fp8",
    "8x1 graphs bfloat16 fp8",
    "2x2 graphs float32",
    "2x1 stock-graphs bfloat16",  # `--shift-graphs off`
    KERNELS,
    "stock TP=1 eager float32",  # in the summary alone: how far stock vLLM is from itself
    "8x1 eager float32",
)


def main(out: Path) -> int:
    out.mkdir(parents=True, exist_ok=True)
    wanted = os.environ.get("SESSION_CASES")  # in the order given
    chosen = wanted.split(",") if wanted else list(CASES)
    if unknown := sorted(set(chosen) - set(CASES)):
        print(f"SESSION_CASES: there is no {', '.join(unknown)}; there are {', '.join(CASES)}", file=sys.stderr)
        return 2
    gpu_memory = _gpu_memory()
    if taken := [gpu for gpu in gpu_memory if gpu.used > FREE_ENOUGH * gpu.total]:
        print("\n".join(f"{gpu}: end what runs there, nvidia-smi names it" for gpu in taken), file=sys.stderr)
        return 2
    ends = time.monotonic() + float(os.environ.get("SESSION_SECONDS", GPU_SECONDS / len(gpu_memory)))
    path = ":".join(map(str, MODULES))
    environment = {
        **os.environ,
        "PYTHONPATH": f"{path}:{os.environ.get('PYTHONPATH', '')}",
        "PYTHONDONTWRITEBYTECODE": "",  # over a hundred processes import vLLM, 20 s of a core without bytecode
    }
    gpus: queue.Queue[str] = queue.Queue()
    for turn in range(PARALLEL * len(gpu_memory)):
        gpus.put(str(turn % len(gpu_memory)))
    results: dict[str, Any] = {}
    writing = threading.Lock()

    def turn_of(name: str) -> None:
        gpu, left = gpus.get(), ends - time.monotonic()
        if left < LEAST_SECONDS:
            result = {"failed": "not run: the time was used up", "phases": {}}
        else:
            seconds = min(CASE_SECONDS, left)
            result = run(name, out, environment | {"CUDA_VISIBLE_DEVICES": gpu}, seconds)
        gpus.put(gpu)
        with writing:
            results[name] = result
            (out / "result.json").write_text(json.dumps(results))

    with ThreadPoolExecutor(max_workers=gpus.qsize()) as pool:
        list(pool.map(turn_of, chosen))
    wrong = list(problems(results, chosen))
    text = "\n".join([summary(results), *not_compared(chosen), *(f"WRONG: {problem}" for problem in wrong)])
    (out / "summary.txt").write_text(text)
    print(text)
    return 1 if wrong else 0


class GpuMemory(NamedTuple):
    """MiB of one GPU."""

    number: int
    used: int
    total: int

    def __str__(self) -> str:
        return f"GPU {self.number} has {self.used:,} of {self.total:,} MiB in use"


def _gpu_memory() -> list[GpuMemory]:
    command = ["nvidia-smi", "--query-gpu=index,memory.used,memory.total", "--format=csv,noheader,nounits"]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    return [GpuMemory(*map(int, line.split(","))) for line in found.stdout.splitlines()]


def run(name: str, out: Path, environment: dict[str, str], seconds: float) -> dict[str, Any]:
    plain = name.replace(" ", "_").replace("=", "")
    answer, log, model = (out.parent / f"{plain}{suffix}" for suffix in (".json", ".log", ".model"))
    answer.unlink(missing_ok=True)  # of a session before
    shutil.rmtree(model, ignore_errors=True)
    began = time.monotonic()
    commands: list[list[str | Path]]
    if name == KERNELS:
        script = CHECKOUT / "benchmarks" / "engine_kernels.py"
        commands = [[sys.executable, script, "--quick", "--out", out / "kernels.md"]]
    else:
        writing: list[str | Path] = [sys.executable, HERE / "write_model.py", Case.named(name).model, model]
        commands = [writing, [sys.executable, HERE / "case.py", name, model, answer]]
    code: int | str = 0
    with log.open("w") as sink:
        for command in commands:
            if code == 0:
                code = exit_code(command, environment, sink, seconds - (time.monotonic() - began))
    result: dict[str, Any] = json.loads(answer.read_text()) if answer.exists() else {"phases": {}}
    result["seconds"] = round(time.monotonic() - began, 1)
    if code != 0:
        result["failed"] = str(code)
        lines = log.read_text(errors="replace").splitlines()
        errors = [line for line in lines if "Error" in line or "error" in line]
        print(f"== {name}: {code}\n" + "\n".join(errors[-6:]) + "\n--\n" + "\n".join(lines[-6:]), flush=True)
    print(f"{name}: {code}, {result['seconds']} s", flush=True)
    return result


def exit_code(command: Sequence[str | Path], environment: dict[str, str], sink: IO[str], seconds: float) -> int | str:
    """Of a command that is ended, with all that it started, where it takes longer; words then."""
    process = subprocess.Popen(command, env=environment, stdout=sink, stderr=sink, start_new_session=True)
    try:
        return process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return f"no end after {seconds:.0f} s"
    finally:
        subprocess.run(["pkill", "-KILL", "-s", str(process.pid)], check=False)


def summary(results: dict[str, Any]) -> str:
    """A line for each phase: beside stock vLLM's of the same model and dtype, and what the engine counted."""
    lines = []
    for name, result in results.items():
        before = NOTHING_COUNTED
        for phase, said in result["phases"].items():
            stats = said.get("stats", NOTHING_COUNTED)
            steps, before = steps_since(before, stats), stats
            more = {what: value for what, value in said.items() if what not in UNSAID}
            lines.append(f"{name} | {phase} | {beside_stock(name, phase, results)} | steps {steps} {more}")
        if at_start := result.get("at start"):
            states = [f"{each['sequence']}x{each['tensor']} {each['state']}" for each in at_start["reports"]]
            said = ", ".join(f"{what} {at_start[what]}" for what in ("weights", "overlay", "graphs"))
            took = at_start["calibration"]["tookSeconds"]
            lines.append(f"{name} | {said}, degrees {', '.join(states)}, calibrated in {took:.1f} s")
    return "\n".join(lines)


def beside_stock(name: str, phase: str, results: dict[str, Any]) -> str:
    """Of each stock engine how many prompts have its tokens, of how many, how many of these bit for bit, and by how
    much the log-probabilities of prompts with the same tokens differ at most."""
    case, found = Case.named(name), []
    engines = sorted(map(Case.named, filter(has_engine, results)), key=lambda engine: engine.gpus)
    for stock in engines:
        theirs = results[str(stock)]["phases"].get(STOCK + asked_in(phase))
        if theirs and stock.is_stock and (stock.dtype, stock.model) == (case.dtype, case.model) and stock != case:
            answers = pairs(results[name]["phases"][phase], theirs)
            same = [pair for pair in answers if pair.is_same]
            apart = max((pair.apart(pair.compared) for pair in same), default=0.0)
            exact = sum(pair.is_identical for pair in same)
            found.append(f"TP={stock.gpus} {len(same)}/{len(answers)}, {exact} exact ({apart:.0e})")
    return "; ".join(found)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
