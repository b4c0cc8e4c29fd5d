"""Step times and throughput of stock tensor parallelism, the shift engine and data parallelism, on one host's GPUs.

    PYTHONPATH=worker_image python3 benchmarks/engine.py OUT [--model 8B] [--degree 2x1] [--rounds 3]
    PYTHONPATH=worker_image python3 benchmarks/engine.py OUT --one-gpu [--model 1B]

The first compares stock vLLM at --tensor-parallel-size P with the shift engine: never shifting, always, and by the
threshold that its calibration found; and with stock vLLM on one GPU, whose throughput on 1 / P of the requests, times
P, is what data parallelism would reach with perfect balance. The second needs one GPU and measures what the shift
engine's part of a step costs where nothing shifts: stock vLLM's worker against ours, both with one rank.

Weights are random, of the named model's shape. Every engine runs in a process of its own; the rounds alternate between
the engines, and each figure is the median over the rounds. OUT gets a table (engine.md), all numbers (engine.json) and
a log per engine.
"""

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

SHAPES: dict[str, dict[str, int]] = {
    "1B": {"hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 32, "intermediate_size": 8192},
    "8B": {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "intermediate_size": 14336},
    "70B": {"hidden_size": 8192, "num_hidden_layers": 80, "num_attention_heads": 64, "intermediate_size": 28672},
}
PREFILLS = (64, 256, 512, 1024, 2048, 4096, 8192, 32768)
BATCHES = (1, 16, 64, 256)
BATCHED_TOKENS = 8192
DECODES = 128  # steps that a decode figure is the mean of
ENGINE_SECONDS = 1200
LOADS = ((192, 2048, 128), (96, 4096, 16), (256, 256, 512))  # requests, tokens in, tokens out
STOCK, NEVER, ALWAYS, AUTO, ONE = "stock", "never", "always", "auto", "one GPU"


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Time stock tensor parallelism and the shift engine.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", choices=SHAPES, default="8B")
    parser.add_argument("--degree", help="the shift engine's degree, SEQUENCExTENSOR; default: all GPUs as sequence")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--graphs", action="store_true", help="capture the shift engine's large steps as CUDA graphs")
    parser.add_argument("--one-gpu", action="store_true", help="only what the shift engine costs when it never shifts")
    parser.add_argument(
        "--engine", choices=["stock", "shift", "one"], help=argparse.SUPPRESS
    )  # the process of one engine
    options = parser.parse_args()
    if options.engine:
        run_engine(options)
        return 0

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
    rounds: dict[str, list[dict[str, Any]]] = {}
    for index in range(options.rounds):
        for engine in ("stock", "shift") if options.one_gpu else ("stock", "shift", "one"):
            for phase, figures in start_engine(engine, index, options).items():
                rounds.setdefault(phase, []).append(figures)
            (options.out / "engine.json").write_text(json.dumps(rounds, indent=1))
    text = table(rounds, torch.cuda.get_device_name(), options)
    (options.out / "engine.md").write_text(text)
    print(text)
    return 0


def start_engine(engine: str, index: int, options: argparse.Namespace) -> dict[str, Any]:
    """Run one engine to its end. -> its figures by phase. Raises RuntimeError with the end of its log."""
    answer, log = options.out / "answer.json", options.out / f"{engine}-{index}.log"
    answer.unlink(missing_ok=True)
    command = [sys.executable, __file__, str(options.out), "--engine", engine]
    command += ["--model", options.model, "--degree", options.degree, *(["--one-gpu"] if options.one_gpu else [])]
    command += ["--graphs"] if options.graphs else []
    with log.open("w") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=sink, start_new_session=True)
    try:
        code = process.wait(ENGINE_SECONDS)
    finally:  # a rank whose peers are gone waits for ever
        if process.poll() is None or not answer.exists():
            os.killpg(process.pid, signal.SIGKILL)
    if code != 0 or not answer.exists():
        raise RuntimeError(f"{engine} ended with {code}; the end of {log}:\n{log.read_text()[-3000:]}")
    print(f"{engine}, round {index + 1}: done", flush=True)
    figures: dict[str, Any] = json.loads(answer.read_text())
    return figures


def run_engine(options: argparse.Namespace) -> None:
    """In the engine's process: every figure in every phase, into OUT/answer.json."""
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    from vllm import LLM

    sequence, tensor = map(int, options.degree.split("x"))
    gpus = sequence * tensor
    more: dict[str, Any] = {}
    if options.engine == "shift":
        more["worker_cls"] = "shift_engine.worker.ShiftWorker"
        ours = {"degree": options.degree, "probe_share": 0.0, "graphs": options.graphs}
        more["additional_config"] = {"shift_parallel": ours}
    began = time.monotonic()
    llm = LLM(
        model=str(write_config(options.out / options.model, options.model)),
        load_format="dummy",
        skip_tokenizer_init=True,
        tensor_parallel_size=1 if options.engine == "one" else gpus,
        max_model_len=max(PREFILLS) + 256,
        max_num_batched_tokens=BATCHED_TOKENS,
        max_num_seqs=max(BATCHES),
        enable_prefix_caching=False,
        **more,
    )
    ready = time.monotonic() - began
    figures: dict[str, Any] = {}
    if options.engine != "shift":
        copies = gpus if options.engine == "one" else 1
        figures[ONE if options.engine == "one" else STOCK] = measure(llm, copies) | {"start, s": round(ready, 1)}
    else:
        stats = llm.collective_rpc("shift_stats")[0]
        crossover = stats["calibration"]["crossoverTokens"]
        full, large = {"sequence": 1, "tensor": gpus}, {"sequence": sequence, "tensor": tensor}
        schedules: dict[str, list[dict[str, int]]] = {NEVER: [full]}
        if not options.one_gpu:
            auto = [full] if crossover is None else [{"upToTokens": max(crossover - 1, 1), **full}, large]
            schedules |= {ALWAYS: [large], AUTO: auto}
        for generation, (phase, ranges) in enumerate(schedules.items(), start=1):
            llm.collective_rpc("shift_apply", args=({"generation": generation, "ranges": ranges},))
            figures[phase] = measure(llm) | {
                "start, s": round(ready, 1),
                "crossover": crossover,
                "weights": stats["weights"],
                "overlay": stats["overlay"],
            }
    (options.out / "answer.json").write_text(json.dumps(figures))


def write_config(directory: Path, model: str) -> Path:
    """A Llama of the model's shape, without weights."""
    directory.mkdir(exist_ok=True)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "torch_dtype": "bfloat16",
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0,
        "max_position_embeddings": 65536,
        "vocab_size": 128256,
        "num_key_value_heads": 8,
        "head_dim": SHAPES[model]["hidden_size"] // SHAPES[model]["num_attention_heads"],
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    (directory / "config.json").write_text(json.dumps(config | SHAPES[model]))
    return directory


def measure(llm: Any, copies: int = 1) -> dict[str, Any]:
    """Milliseconds: a prefill of one request by its tokens, a decode step by its batch. Tokens per second, in and out,
    of each load; of so many copies of this engine that share it evenly."""
    from vllm import SamplingParams

    ids = random.Random(0)

    def prompt(tokens: int) -> dict[str, list[int]]:
        return {"prompt_token_ids": [ids.randrange(10, 120000) for _ in range(tokens)]}

    def seconds(prompts: list[dict[str, list[int]]], tokens: int) -> float:
        wanted = SamplingParams(
            temperature=0.0, max_tokens=tokens, min_tokens=tokens, ignore_eos=True, detokenize=False
        )
        began = time.perf_counter()
        llm.generate(prompts, wanted, use_tqdm=False)
        return time.perf_counter() - began

    seconds([prompt(64) for _ in range(8)], 8)

    def decode_step(prompts: list[dict[str, list[int]]]) -> float:
        return (seconds(prompts, DECODES + 2) - seconds(prompts, 2)) / DECODES

    prefill, decode = {}, {}
    for n in PREFILLS:
        prefill[n] = median_of(partial(seconds, [prompt(n)], 1), 7 if n <= BATCHED_TOKENS else 3) * 1e3
    for batch in BATCHES:
        decode[batch] = median_of(partial(decode_step, [prompt(64) for _ in range(batch)]), 4) * 1e3
    throughput = {}
    for requests, tokens, output in LOADS:
        share = requests // copies
        took = seconds([prompt(tokens) for _ in range(share)], output)
        throughput[load_name(tokens, output)] = copies * share * (tokens + output) / took
    return {"prefill": prefill, "decode": decode, "throughput": throughput}


def load_name(tokens: int, output: int) -> str:
    """What a table calls a load."""
    return f"{tokens} in, {output} out"


def median_of(run: Callable[[], float], times: int) -> float:
    """The median of so many runs, after one that warms up."""
    return statistics.median([run() for _ in range(times + 1)][1:])


def table(rounds: dict[str, list[dict[str, Any]]], gpu: str, options: argparse.Namespace) -> str:
    """Markdown: a row per size, a column per engine or phase, and each phase as a ratio to stock."""
    phases = list(rounds)
    compared = [phase for phase in phases if phase != STOCK]
    lines = [
        f"{options.model} shape, bf16, random weights, degree {options.degree}, {gpu}; "
        f"medians of {options.rounds} rounds, milliseconds, and in brackets the ratio to stock. "
        f"Throughput of {ONE} is that of as many engines as GPUs.",
        "",
        "| | " + " | ".join(["stock", *(phase if phase == ONE else f"shift, {phase}" for phase in compared)]) + " |",
        "|---" * (len(phases) + 1) + "|",
    ]
    for what, sizes, said in (("prefill", PREFILLS, "prefill of {} tokens"), ("decode", BATCHES, "decode, batch {}")):
        lines += [row(rounds, what, str(size), said.format(size), ".2f") for size in sizes]
    for _, tokens, output in LOADS:
        name = load_name(tokens, output)
        lines.append(row(rounds, "throughput", name, f"{name}, tokens/s", ",.0f"))
    last = rounds[NEVER][-1]
    lines += [
        "",
        f"Crossover {last['crossover']} tokens; weights on rank 0: {last['weights']}; overlay: {last['overlay']}.",
    ]
    return "\n".join(lines) + "\n"


def row(rounds: dict[str, list[dict[str, Any]]], what: str, size: str, said: str, form: str) -> str:
    """A line of the table: the median of each phase, and its ratio to stock's."""
    medians = {phase: statistics.median(each[what][size] for each in rounds[phase]) for phase in rounds}
    cells = [format(value, form) for value in medians.values()]
    ratios = ["" if phase == STOCK else f" ({value / medians[STOCK]:.3f})" for phase, value in medians.items()]
    return f"| {said} | " + " | ".join(cell + ratio for cell, ratio in zip(cells, ratios, strict=True)) + " |"


if __name__ == "__main__":
    sys.exit(main())
