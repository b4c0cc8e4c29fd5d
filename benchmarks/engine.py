"""Step times and throughput of stock tensor parallelism, the shift engine, data parallelism and ArcticInference, on one
host's GPUs.

    PYTHONPATH=worker_image python3 benchmarks/engine.py OUT [--model 8B] [--degree 2x1] [--rounds 3] [--arctic PYTHON]
    PYTHONPATH=worker_image python3 benchmarks/engine.py OUT --one-gpu [--model 1B]

The first compares stock vLLM at --tensor-parallel-size P with the shift engine: never shifting, always, and by the
threshold that its calibration found; and with stock vLLM on one GPU, whose throughput on 1 / P of the requests, times
P, is what data parallelism would reach with perfect balance. With --arctic also with ArcticInference, at the same
degree with shifting off and on: it needs vLLM 0.26, so PYTHON is the interpreter of another environment, with
arctic-inference 0.3 (or a script that sets its variables and starts one); it does not see this one's PYTHONPATH. Its
engine core has a process of its own, as its releases run, the others' has not. The second needs one GPU and measures
what the shift engine's part of a step costs where nothing shifts: stock vLLM's worker against ours, both with one rank.

Weights are random, of the named model's shape. Every engine runs in a process of its own (`engine_process.py`); the
rounds alternate between the engines, and each figure is the median over the rounds. One that fails is not tried again;
the table says so, and the others go on. OUT gets the table (engine.md), all numbers (engine.json), a log per engine.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from engine_figures import ONE, Figures, table
from engine_process import ARCTIC, SHAPES

ENGINE_SECONDS = 1200


class EngineFailed(Exception):
    """An engine gave no figures; the message says where to look."""


def main() -> int:
    """The command line. Exits 1 where an engine failed."""
    parser = argparse.ArgumentParser(description="Time stock tensor parallelism and the shift engine.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", choices=SHAPES, default="8B")
    parser.add_argument("--degree", help="the shift engine's degree, SEQUENCExTENSOR; default: all GPUs as sequence")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--graphs", action="store_true", help="capture the shift engine's large steps as CUDA graphs")
    parser.add_argument("--arctic", type=Path, metavar="PYTHON", help="an interpreter with vLLM 0.26, ArcticInference")
    parser.add_argument("--one-gpu", action="store_true", help="only what the shift engine costs when it never shifts")
    options = parser.parse_args()

    import torch

    found = torch.cuda.device_count()
    if found < (1 if options.one_gpu else 2):
        wanted = "one GPU" if options.one_gpu else "at least two GPUs; with one, --one-gpu measures what that allows"
        print(f"This benchmark needs {wanted}. This machine has {found}.", file=sys.stderr)
        return 1
    if options.one_gpu:
        options.degree = "1x1"
    elif options.degree is None:
        options.degree = f"{2 ** (found.bit_length() - 1)}x1"
    options.out.mkdir(parents=True, exist_ok=True)
    engines = ["stock", "shift"] if options.one_gpu else ["stock", "shift", "one", *(ARCTIC if options.arctic else ())]
    rounds, lacks = run_rounds(engines, options)
    said = (
        f"{options.model} shape, bf16, random weights, degree {options.degree}, {torch.cuda.get_device_name()}; "
        f"medians of {options.rounds} rounds, milliseconds, and in brackets the ratio to stock. "
        f"Throughput of {ONE} is that of as many engines as GPUs."
    )
    text = table(rounds, said, lacks)
    (options.out / "engine.md").write_text(text)
    print(text)
    return 1 if lacks else 0


def run_rounds(engines: list[str], options: argparse.Namespace) -> tuple[dict[str, list[Figures]], dict[str, str]]:
    """-> the figures by phase, and why engines are missing. One that has failed is not tried again."""
    rounds: dict[str, list[Figures]] = {}
    lacks: dict[str, str] = {}
    for index in range(options.rounds):
        for engine in engines:
            if engine in lacks:
                continue
            try:
                answer = start_engine(engine, index, options)
            except EngineFailed as failed:
                lacks[engine] = str(failed)
                print(f"{engine}, round {index + 1}: {failed}", file=sys.stderr, flush=True)
                continue
            for phase, figures in answer.items():
                rounds.setdefault(phase, []).append(figures)
            (options.out / "engine.json").write_text(json.dumps(rounds, indent=1))
    return rounds, lacks


def start_engine(engine: str, index: int, options: argparse.Namespace) -> dict[str, Any]:
    """Run one engine to its end. -> its figures by phase. Raises EngineFailed."""
    answer, log = options.out / "answer.json", options.out / f"{engine}-{index}.log"
    answer.unlink(missing_ok=True)
    environment = dict(os.environ)
    interpreter: str | Path = sys.executable
    if engine in ARCTIC:
        interpreter = options.arctic
        environment.pop("PYTHONPATH", None)  # this environment's vLLM, or ours
    command = [interpreter, Path(__file__).with_name("engine_process.py"), options.out, "--engine", engine]
    command += ["--model", options.model, "--degree", options.degree]
    command += [flag for flag, is_on in (("--one-gpu", options.one_gpu), ("--graphs", options.graphs)) if is_on]
    try:
        with log.open("w") as sink:
            process = subprocess.Popen(command, env=environment, stdout=sink, stderr=sink, start_new_session=True)
    except OSError as error:
        raise EngineFailed(f"{interpreter}: {error.strerror}") from error
    try:
        code: int | str = process.wait(ENGINE_SECONDS)
    except subprocess.TimeoutExpired:
        code = f"no end after {ENGINE_SECONDS} s"
    finally:  # a rank whose peers are gone waits for ever
        if process.poll() is None or not answer.exists():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    if code != 0 or not answer.exists():
        said = [line for line in log.read_text(errors="replace").splitlines() if "Error" in line]
        raise EngineFailed(f"ended with {code}, see {log.name}" + (f": {said[-1].strip()[:200]}" if said else ""))
    print(f"{engine}, round {index + 1}: done", flush=True)
    figures: dict[str, Any] = json.loads(answer.read_text())
    return figures


if __name__ == "__main__":
    sys.exit(main())
