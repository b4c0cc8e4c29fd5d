"""One engine of `engine.py`, in a process of its own: every figure in every phase, into OUT/answer.json.

ArcticInference has an interpreter of its own, with the vLLM that it wants: only this file and `engine_figures` run
there, so they import nothing of the shift engine, and no vLLM before the engine's kind is known.
"""

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

from engine_figures import (
    ALWAYS,
    ARCTIC_SEQUENCE,
    ARCTIC_SHIFT,
    AUTO,
    BATCHED_TOKENS,
    BATCHES,
    NEVER,
    ONE,
    PREFILLS,
    STOCK,
    measure,
)

SHAPES: dict[str, dict[str, int]] = {
    "1B": {"hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 32, "intermediate_size": 8192},
    "8B": {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "intermediate_size": 14336},
    "70B": {"hidden_size": 8192, "num_hidden_layers": 80, "num_attention_heads": 64, "intermediate_size": 28672},
}
ARCTIC = {"arctic-sp": ARCTIC_SEQUENCE, "arctic-shift": ARCTIC_SHIFT}
ENGINES = (STOCK, "shift", "one", *ARCTIC)
ARCTIC_SHIFT_MEMORY = 0.8  # its second copy of the weights is not in its memory profile: at 0.9 it ran out on 80 GB


def main() -> None:
    """The command line, which `engine.py` writes."""
    parser = argparse.ArgumentParser(description="Measure one engine.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--engine", choices=ENGINES, required=True)
    parser.add_argument("--model", choices=SHAPES, required=True)
    parser.add_argument("--degree", required=True)
    parser.add_argument("--graphs", action="store_true")
    parser.add_argument("--one-gpu", action="store_true")
    options = parser.parse_args()
    (options.out / "answer.json").write_text(json.dumps(run(options)))


def run(options: argparse.Namespace) -> dict[str, Any]:
    """-> the figures by phase."""
    if options.engine in ARCTIC:
        os.environ["ARCTIC_INFERENCE_ENABLED"] = "1"
    else:
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    from vllm import LLM

    if options.engine in ARCTIC:  # its flags are known to vLLM once its plugin has changed EngineArgs
        from vllm.plugins import load_general_plugins

        load_general_plugins()
    sequence, tensor = map(int, options.degree.split("x"))
    gpus = sequence * tensor
    began = time.monotonic()
    llm = LLM(
        model=str(write_config(options.out / options.model, options.model)),
        load_format="dummy",
        skip_tokenizer_init=True,
        max_model_len=max(PREFILLS) + 256,
        max_num_batched_tokens=BATCHED_TOKENS,
        max_num_seqs=max(BATCHES),
        enable_prefix_caching=False,
        **flags(options, sequence, tensor),
    )
    start = {"start, s": round(time.monotonic() - began, 1)}
    if options.engine == "shift":
        return measure_each_schedule(llm, options, start)
    phase = {STOCK: STOCK, "one": ONE, **ARCTIC}[options.engine]
    return {phase: measure(llm, gpus if options.engine == "one" else 1) | start}


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
            shifting = {"enable_shift_parallel": True, "gpu_memory_utilization": ARCTIC_SHIFT_MEMORY}
            return shifting | {"tensor_parallel_size": tensor, "ulysses_sequence_parallel_size": sequence}
        case _:
            return {"tensor_parallel_size": sequence * tensor}


def measure_each_schedule(llm: Any, options: argparse.Namespace, start: dict[str, float]) -> dict[str, Any]:
    """-> the shift engine's figures by phase: never, always, and by the crossover that its calibration found."""
    sequence, tensor = map(int, options.degree.split("x"))
    stats = llm.collective_rpc("shift_stats")[0]
    crossover = stats["calibration"]["crossoverTokens"]
    full, large = {"sequence": 1, "tensor": sequence * tensor}, {"sequence": sequence, "tensor": tensor}
    schedules: dict[str, list[dict[str, int]]] = {NEVER: [full]}
    if not options.one_gpu:
        auto = [full] if crossover is None else [{"upToTokens": max(crossover - 1, 1), **full}, large]
        schedules |= {ALWAYS: [large], AUTO: auto}
    known = start | {"crossover": crossover, "weights": stats["weights"], "overlay": stats["overlay"]}
    figures: dict[str, Any] = {}
    for generation, (phase, ranges) in enumerate(schedules.items(), start=1):
        llm.collective_rpc("shift_apply", args=({"generation": generation, "ranges": ranges},))
        figures[phase] = measure(llm) | known
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
