"""One engine of `engine.py`, in a process of its own. It says how long it took to start, and answers each request, for
every figure in every phase, for one turn of decode steps or for a profile, until its connection is closed.

ArcticInference has an interpreter of its own, with the vLLM that it wants: only this file, `engine_figures` and
`engine_profile` run there, so they import nothing of the shift engine, and no vLLM before the engine's kind is known.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from engine_figures import (
    ALWAYS,
    ARCTIC_SEQUENCE,
    ARCTIC_SHIFT,
    AUTO,
    BATCHED_TOKENS,
    BATCHES,
    CONTROL,
    NEVER,
    ONE,
    PREFILLS,
    STOCK,
    UNTIMED,
    Turn,
    measure,
    turn,
)
from engine_profile import profile, time_steps

SHAPES: dict[str, dict[str, int]] = {
    "1B": {"hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 32, "intermediate_size": 8192},
    "8B": {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "intermediate_size": 14336},
    "70B": {"hidden_size": 8192, "num_hidden_layers": 80, "num_attention_heads": 64, "intermediate_size": 28672},
}
ARCTIC = {"arctic-sp": ARCTIC_SEQUENCE, "arctic-shift": ARCTIC_SHIFT}
PHASES = {STOCK: STOCK, "control": CONTROL, "one": ONE, **ARCTIC}  # of the engines that have one each
ENGINES = ("shift", *PHASES)
KV_CACHE_GIB = 8  # on each GPU; as given, not what is left: engines that start at once share the memory
FIGURES, TURN, PROFILE = "figures", "turn", "profile"  # what can be asked for
MEMORY_LEFT = 0.05  # of the GPU: what vLLM wants to find free, no more, as the cache's size is given


def main() -> None:
    """The command line, which `engine.py` writes."""
    parser = argparse.ArgumentParser(description="Measure one engine.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--engine", choices=ENGINES, required=True)
    parser.add_argument("--model", choices=SHAPES, required=True)
    parser.add_argument("--degree", required=True)
    parser.add_argument("--connection", type=int, required=True, help="a file descriptor, open in this process")
    parser.add_argument("--graphs", required=True)
    parser.add_argument("--one-gpu", action="store_true")
    options = parser.parse_args()
    os.set_inheritable(options.connection, False)  # it ends with this process, not with one of the engine's
    with Connection(options.connection) as asked:
        llm, seconds = start(options)
        asked.send(seconds)
        figures = partial(run, known={"start, s": round(seconds, 1)})
        answers: dict[str, Callable[..., Any]] = {FIGURES: figures, TURN: run_turn, PROFILE: run_profile}
        while True:
            try:
                what = asked.recv()
            except EOFError:
                return
            asked.send(answers[what](llm, options))


def start(options: argparse.Namespace) -> tuple[Any, float]:
    """-> vLLM's LLM, and the seconds it took."""
    if options.engine in ARCTIC:
        os.environ["ARCTIC_INFERENCE_ENABLED"] = "1"
    else:
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        os.environ["VLLM_ALLOW_INSECURE_SERIALIZATION"] = "1"  # the profiler's functions go to the ranks
    from vllm import LLM

    if options.engine in ARCTIC:  # its flags are known to vLLM once its plugin has changed EngineArgs
        from vllm.plugins import load_general_plugins

        load_general_plugins()
    sequence, tensor = map(int, options.degree.split("x"))
    began = time.monotonic()
    llm = LLM(
        model=str(write_config(options.out / f"{options.model}-{options.engine}", options.model)),
        load_format="dummy",
        skip_tokenizer_init=True,
        max_model_len=max(PREFILLS) + 256,
        max_num_batched_tokens=BATCHED_TOKENS,
        max_num_seqs=max(BATCHES),
        enable_prefix_caching=False,
        kv_cache_memory_bytes=KV_CACHE_GIB * 2**30,
        gpu_memory_utilization=MEMORY_LEFT,
        **flags(options, sequence, tensor),
    )
    return llm, time.monotonic() - began


def run(llm: Any, options: argparse.Namespace, known: dict[str, float]) -> dict[str, Any]:
    """-> the figures by phase, each with what was known before."""
    if options.engine == "shift":
        return measure_each_schedule(llm, options, known)
    sequence, tensor = map(int, options.degree.split("x"))
    return {PHASES[options.engine]: measure(llm, sequence * tensor if options.engine == "one" else 1) | known}


def run_turn(llm: Any, options: argparse.Namespace) -> dict[str, Turn]:
    """-> by phase, decode steps where nothing shifts."""
    if options.engine != "shift":
        return {PHASES[options.engine]: turn(llm)}
    schedule(llm, [full(options)])
    found = {NEVER: turn(llm)}
    llm.collective_rpc(time_steps, args=(False,))
    found[UNTIMED] = turn(llm)
    llm.collective_rpc(time_steps, args=(True,))
    return found


def run_profile(llm: Any, options: argparse.Namespace) -> dict[str, Any]:
    """-> by phase, where the time of its steps goes."""
    if options.engine != "shift":
        return {PHASES[options.engine]: profile(llm)}
    found: dict[str, Any] = {}
    for phase, degree in ((NEVER, full(options)), (ALWAYS, large(options))):
        schedule(llm, [degree])
        found[phase] = profile(llm)
    return found


def schedule(llm: Any, ranges: list[dict[str, int]]) -> None:
    """The shift engine's, from the next step on."""
    generation = llm.collective_rpc("shift_stats")[0]["generation"] + 1
    llm.collective_rpc("shift_apply", args=({"generation": generation, "ranges": ranges},))


def large(options: argparse.Namespace) -> dict[str, int]:
    """The shift engine's degree, as a range of a schedule names it."""
    sequence, tensor = map(int, options.degree.split("x"))
    return {"sequence": sequence, "tensor": tensor}


def full(options: argparse.Namespace) -> dict[str, int]:
    """Tensor parallelism over all GPUs, as a range of a schedule names it."""
    sequence, tensor = map(int, options.degree.split("x"))
    return {"sequence": 1, "tensor": sequence * tensor}


def flags(options: argparse.Namespace, sequence: int, tensor: int) -> dict[str, Any]:
    """What differs between the engines."""
    match options.engine:
        case "one":
            return {"tensor_parallel_size": 1}
        case "shift":
            ours = {"degree": options.degree, "probe_share": 0.0, "graphs": options.graphs}
            worker = {"worker_cls": "shift_engine.worker.ShiftWorker", "additional_config": {"shift_parallel": ours}}
            return worker | {"tensor_parallel_size": sequence * tensor}
        case "arctic-sp":
            return {"tensor_parallel_size": tensor, "ulysses_sequence_parallel_size": sequence}
        case "arctic-shift":  # at its own threshold, 512 tokens
            shifting = {"enable_shift_parallel": True}
            return shifting | {"tensor_parallel_size": tensor, "ulysses_sequence_parallel_size": sequence}
        case _:
            return {"tensor_parallel_size": sequence * tensor}


def measure_each_schedule(llm: Any, options: argparse.Namespace, known: dict[str, float]) -> dict[str, Any]:
    """-> the shift engine's figures by phase: never, always, and by the crossover of its curves."""
    stats = llm.collective_rpc("shift_stats")[0]
    crossover = stats["calibration"]["crossoverTokens"]
    schedules: dict[str, list[dict[str, int]]] = {NEVER: [full(options)]}
    if not options.one_gpu:
        small, last = full(options), large(options)
        auto = [small] if crossover is None else [{"upToTokens": max(crossover - 1, 1), **small}, last]
        schedules |= {ALWAYS: [last], AUTO: auto}
    more = {key: stats[key] for key in ("calibration", "weights", "memory", "overlay")}
    figures: dict[str, Any] = {}
    for phase, ranges in schedules.items():
        schedule(llm, ranges)
        figures[phase] = measure(llm) | known | more
    return figures


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


if __name__ == "__main__":
    main()
