"""What is made of a tiny model on the spot: a LoRA adapter, and the same model with quantised weights."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

RANK = 4  # of the adapter
ADAPTED = ("q_proj", "v_proj", "o_proj", "gate_proj", "down_proj")  # split by rows and by columns
PROJECTIONS = (*ADAPTED, "k_proj", "up_proj")


def write_adapter(model: Path, directory: Path) -> None:
    """A random LoRA adapter of a tiny Llama, as peft saves one, strong enough to change its answers."""
    directory.mkdir()
    noise = torch.Generator().manual_seed(5)
    weights = {}
    for name, weight in load_file(model / "model.safetensors").items():
        path = name.removesuffix(".weight")
        if path.endswith(ADAPTED):
            rows, columns = weight.shape
            for part, shape in (("lora_A", (RANK, columns)), ("lora_B", (rows, RANK))):
                weights[f"base_model.model.{path}.{part}.weight"] = torch.randn(shape, generator=noise) * 0.1
    save_file(weights, directory / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": 2 * RANK, "target_modules": ADAPTED, "bias": "none"}
    (directory / "adapter_config.json").write_text(json.dumps(config | {"task_type": "CAUSAL_LM"}))


def quantise(model: Path, *, kind: str = "int") -> None:
    """Replace the projections' weights by numbers of 8 bits, `int` or `float`, with a scale for each row, as
    compressed-tensors writes them; inputs are quantised as they come, each token with a scale of its own (W8A8)."""
    largest, dtype = {"int": (127, torch.int8), "float": (448, torch.float8_e4m3fn)}[kind]
    weights: dict[str, Any] = {}
    for name, weight in load_file(model / "model.safetensors").items():
        weights[name] = weight
        if name.removesuffix(".weight").endswith(PROJECTIONS):
            scale = weight.float().abs().amax(dim=1, keepdim=True) / largest
            scaled = weight / scale
            weights[name] = (scaled.round() if kind == "int" else scaled).to(dtype)
            weights[f"{name}_scale"] = scale
    save_file(weights, model / "model.safetensors")
    numbers = {"num_bits": 8, "type": kind, "symmetric": True}
    group = {
        "targets": ["Linear"],
        "weights": numbers | {"strategy": "channel", "dynamic": False},
        "input_activations": numbers | {"strategy": "token", "dynamic": True},
    }
    how = {"quant_method": "compressed-tensors", "format": f"{kind}-quantized", "config_groups": {"group_0": group}}
    config = json.loads((model / "config.json").read_text())
    config["quantization_config"] = how | {"ignore": ["lm_head"], "quantization_status": "compressed"}
    (model / "config.json").write_text(json.dumps(config))
