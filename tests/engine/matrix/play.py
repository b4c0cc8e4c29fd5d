"""An engine of a cell, stock vLLM's or ours: play.py KIND CELL stock|ours ANSWER.json, run by warm.py

Each phase generates greedy tokens from an empty cache.
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import kinds_of_request
from cells import Cell, MixCell, PlainCell
from checkpoints import quantise, write_adapter
from kinds_of_request import prompt

EXAMPLES = Path(__file__).parents[3] / "examples"
SERVING = Path(__file__).parents[1] / "serving"
SMALL: dict[str, Any] = {
    "skip_tokenizer_init": True,
    "max_model_len": 512,
    "max_num_seqs": 8,
    "num_gpu_blocks_override": 64,
}
BATCHED_TOKENS = 64  # the longest prompt takes four chunks
NEW_TOKENS = 8
# Prompts by their number of tokens: one row, fewer rows than ranks, odd sums, several chunks; a prefix of full blocks.
LENGTHS = (1, 3, 61, 230)
SHARED_PREFIX, SHARED_TAILS = 96, (1, 40)


def token_prompts() -> list[list[int]]:
    """By LENGTHS, then those that share a prefix."""
    prefix = prompt(SHARED_PREFIX, 99)
    return [prompt(n, n) for n in LENGTHS] + [prefix + prompt(n, n) for n in SHARED_TAILS]


def start(cell: Cell | MixCell, model: Path, *, stock: bool) -> Any:
    """The cell's engine, or stock vLLM's of the same model and size."""
    shift = {"degree": cell.degrees[0], "probe_share": 0.0, "calibration": False}
    worker = "UnpackedMatrixWorker" if cell.keeps_weights else "MatrixWorker"
    options: dict[str, Any] = {"worker_cls": f"ranks.{worker}", "additional_config": {"shift_parallel": shift}}
    if stock:
        options = {"worker_cls": "ranks.UnpackedStockWorker"} if cell.keeps_weights else {}
    if isinstance(cell, MixCell):
        options |= {"skip_tokenizer_init": False, "disable_log_stats": False}
        options |= {"num_gpu_blocks_override": kinds_of_request.BLOCKS, "max_num_seqs": 10, "max_model_len": 256}
        options |= kinds_of_request.speculation(cell.speculation, cell.draft_tokens, model)
    return engine(
        model,
        tensor_parallel_size=cell.gpus,
        enforce_eager=not cell.is_compiled,
        block_size=32,
        enable_prefix_caching=True,
        **options,
    )


def start_plain(cell: PlainCell, model: Path, *, stock: bool) -> Any:
    """The engine of a model or configuration that has no overlay."""
    shift = {"degree": "2x1", "calibration": False}
    ours = {"worker_cls": "shift_engine.worker.ShiftWorker", "additional_config": {"shift_parallel": shift}}
    options = ({} if stock else ours) | dict(cell.options)
    return engine(model, tensor_parallel_size=2, enforce_eager=True, **options)


def engine(model: Path, **options: Any) -> Any:
    """vLLM with a small cache and small steps."""
    from vllm import LLM

    return LLM(
        str(model),
        distributed_executor_backend="mp",
        dtype="float32",
        max_num_batched_tokens=BATCHED_TOKENS,
        seed=0,
        **SMALL | options,
    )


def generate(llm: Any, lora: Any = None) -> dict[str, Any]:
    """Greedy tokens and log-probabilities: all prompts at once, then the first alone, a single row at each step.

    `lora`: vLLM's request for an adapter.
    """
    from vllm import SamplingParams

    prompts = token_prompts()
    wanted = SamplingParams(temperature=0, max_tokens=NEW_TOKENS, ignore_eos=True, logprobs=1, detokenize=False)
    llm.reset_prefix_cache()
    batches = (prompts[:-1], [prompts[-1]], [prompts[0]])  # the last prompt finds the prefix in the cache
    outputs = [
        output
        for batch in batches
        for output in llm.generate(
            [{"prompt_token_ids": prompt} for prompt in batch], wanted, use_tqdm=False, lora_request=lora
        )
    ]
    return {
        "tokens": [list(o.outputs[0].token_ids) for o in outputs],
        "logprobs": [
            [each[t].logprob for t, each in zip(o.outputs[0].token_ids, o.outputs[0].logprobs, strict=True)]
            for o in outputs
        ],
        "cached tokens": sum(o.num_cached_tokens or 0 for o in outputs),
    }


def play(cell: Cell | MixCell, model: Path, *, stock: bool) -> dict[str, Any]:
    """All phases: never, always at each degree, and another degree at each step."""
    llm = start(cell, model, stock=stock)
    generate_all = kinds_of_request.answer if isinstance(cell, MixCell) else generate
    if stock:
        return {"stock": generate_all(llm)}
    stats = llm.collective_rpc("shift_stats")[0]
    found: dict[str, Any] = {key: stats[key] for key in ("overlay", "weights")}
    llm.collective_rpc("load_degrees", args=(cell.degrees[1:],))
    if cell.is_moe:
        found["experts"] = llm.collective_rpc("expert_tensors")
    for phase, degrees in cell.phases.items():
        llm.collective_rpc("run_in_turn", args=(degrees,))
        answers = generate_all(llm)
        ran = {"degrees": llm.collective_rpc("degrees_run")[0], "sent": llm.collective_rpc("rows_sent")[0]}
        found[phase] = answers | ran
    found["fallbacks"] = llm.collective_rpc("shift_stats")[0]["fallbacks"]
    return found


def play_plain(cell: PlainCell, model: Path, *, stock: bool) -> dict[str, Any]:
    """What the engine says of its overlay, and what it answers under a schedule that asks for one."""
    llm = start_plain(cell, model, stock=stock)
    if stock:
        return {"stock": generate(llm)} | with_adapter(llm, cell, model, "stock, adapter")
    ranges = [{"sequence": 2, "tensor": 1}]
    llm.collective_rpc("shift_apply", args=({"generation": 1, "ranges": ranges},))
    answers = {"always": generate(llm)} if cell.generates else {}
    answers |= with_adapter(llm, cell, model, "always, adapter")
    return answers | {"stats": llm.collective_rpc("shift_stats")[0]}


def with_adapter(llm: Any, cell: PlainCell, model: Path, name: str) -> dict[str, Any]:
    """The answers with a LoRA adapter, under this name, where the cell has one."""
    if not cell.adapter:
        return {}
    from vllm.lora.request import LoRARequest

    directory = model / "adapter"
    write_adapter(model, directory)
    return {name: generate(llm, LoRARequest("tiny", 1, str(directory)))}


def main() -> None:
    """The process."""
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # the scheduler in this process: the same steps in every run
    sys.path += [str(EXAMPLES), str(SERVING)]
    import torch
    from tiny_model import write_model

    name, fields, which, answer = sys.argv[1:]
    kind = next(kind for kind in (Cell, MixCell, PlainCell) if kind.__name__ == name)
    cell = kind(**json.loads(fields))
    # vLLM compiles parts of its sampler even in eager engines, anew in each rank: half of such an engine's time.
    torch.compiler.set_stance("default" if getattr(cell, "is_compiled", False) else "force_eager")
    with tempfile.TemporaryDirectory() as directory:
        model = Path(directory)
        write_model(model, family=cell.family, kv_heads=getattr(cell, "kv_heads", 8), layers=2)
        if eight_bits := getattr(cell, "eight_bits", ""):
            quantise(model, kind=eight_bits)
        found = (play_plain if kind is PlainCell else play)(cell, model, stock=which == "stock")
    Path(answer).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
