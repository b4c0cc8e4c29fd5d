"""The reason that GET /shift gives, from vLLM's own configuration of a tiny model."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from warm import look_at_models_here

EXAMPLES = Path(__file__).parents[3] / "examples"

CASES: list[tuple[str, dict[str, Any], str | None]] = [
    ("llama", {}, None),
    ("mixtral", {}, None),
    ("mixtral", {"enable_expert_parallel": True}, "expert parallelism"),
    ("llama", {"enable_lora": True}, "LoRA"),
    ("llama", {"pipeline_parallel_size": 2}, "pipeline parallelism"),
    ("llama", {"data_parallel_size": 2}, "data parallelism"),
    ("mixtral", {"data_parallel_size": 2}, "data parallelism"),
    ("mixtral", {"data_parallel_size": 2, "enable_expert_parallel": True}, "data parallelism or expert parallelism"),
    ("llama", {"tensor_parallel_size": 4, "decode_context_parallel_size": 2}, "context parallelism"),
    ("llama", {"runner": "pooling"}, "pooling models"),
    ("deepseek_v2", {}, "MLA attention"),
    ("mamba", {}, "state-space layers"),
    ("compressed-tensors", {}, None),
    ("awq", {"dtype": "bfloat16"}, "weights quantised otherwise than by compressed-tensors"),
    ("whisper", {}, "multimodal models or encoder-decoder models"),
    ("llama", {"weight_transfer_config": {"backend": "nccl"}}, "weight transfer"),
    ("llama", {"cpu_offload_gb": 1}, "offloaded weights"),
    ("llama", {"offload_group_size": 2, "offload_num_in_group": 1, "offload_prefetch_step": 1}, "offloaded weights"),
    ("mamba", {"pipeline_parallel_size": 2}, "pipeline parallelism or state-space layers"),
]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One directory for each family, with two KV heads."""
    sys.path.append(str(EXAMPLES))
    from tiny_model import write_model

    look_at_models_here()
    directory = tmp_path_factory.mktemp("models")
    for family in {family for family, _, _ in CASES} - {"compressed-tensors", "awq", "whisper"}:
        write_model(directory / family, family=family, kv_heads=8 if family == "deepseek_v2" else 2, layers=1)
    fp8 = {"num_bits": 8, "type": "float", "symmetric": True}
    inputs, weights = fp8 | {"strategy": "token", "dynamic": True}, fp8 | {"strategy": "channel", "dynamic": False}
    group = {"targets": ["Linear"], "weights": weights, "input_activations": inputs}
    rows = {"format": "float-quantized", "config_groups": {"group_0": group}, "ignore": ["lm_head"]}
    awq = {"bits": 4, "group_size": 32, "zero_point": True, "version": "gemm"}
    for method, how in (("compressed-tensors", rows), ("awq", awq)):
        write_config_of_quantised_weights(directory / "llama", directory / method, how | {"quant_method": method})
    write_config_of_whisper(directory / "whisper")
    return directory


def write_config_of_quantised_weights(llama: Path, directory: Path, how: dict[str, Any]) -> None:
    shutil.copytree(llama, directory)
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | {"quantization_config": how}))


def write_config_of_whisper(directory: Path) -> None:
    """An encoder for sound and a decoder."""
    from tiny_model import train_tokenizer
    from transformers import WhisperConfig

    layers = {"encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 4, "decoder_attention_heads": 4}
    config = WhisperConfig(d_model=64, vocab_size=512, encoder_ffn_dim=64, decoder_ffn_dim=64, **layers)
    config.architectures = ["WhisperForConditionalGeneration"]
    config.save_pretrained(directory)
    train_tokenizer(512).save_pretrained(directory)


@pytest.fixture(autouse=True)
def on_cpu(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What vLLM reads as it is configured."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


def configured(model: Path, **options: Any) -> Any:
    """vLLM's configuration of it."""
    from vllm import EngineArgs

    arguments: dict[str, Any] = {"tensor_parallel_size": 2, "dtype": "float32", "max_model_len": 400}
    arguments["skip_tokenizer_init"] = model.name != "whisper"
    return EngineArgs(str(model), **arguments | options).create_engine_config()


@pytest.mark.parametrize(("family", "options", "what"), CASES, ids=str)
def test_the_reason_names_each_cause(models: Path, family: str, options: dict[str, Any], what: str | None) -> None:
    from shift_engine.compat.configuration import configuration_problem

    config = configured(models / family, **options)
    expected = f"the overlay does not support {what} yet" if what else None
    assert configuration_problem(config, v2=False) == expected


@pytest.mark.parametrize(
    ("variable", "compilation", "what"),
    [
        ("VLLM_BATCH_INVARIANT", {}, "batch invariance (VLLM_BATCH_INVARIANT)"),
        (None, {"pass_config": {"fuse_attn_quant": True}}, "attention fused with quantisation (fuse_attn_quant)"),
    ],
)
def test_what_would_change_results_unseen_is_named(
    models: Path, monkeypatch: pytest.MonkeyPatch, variable: str | None, compilation: dict[str, Any], what: str
) -> None:
    if variable is not None:
        monkeypatch.setenv(variable, "1")
    from shift_engine.compat.configuration import configuration_problem
    from vllm.config import CompilationConfig

    config = configured(models / "llama")
    config.compilation_config = CompilationConfig(**compilation)
    assert configuration_problem(config, v2=False) == f"the overlay does not support {what} yet"


def test_one_all_reduce_for_a_process_is_none_for_a_part_of_the_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    from shift_engine.compat.configuration import tensor_group_problem
    from shift_engine.degree import Degree

    degrees = [Degree(1, 8), Degree(2, 4), Degree(4, 2), Degree(8, 1)]
    assert [tensor_group_problem(degree) for degree in degrees] == [None] * 4
    monkeypatch.setenv("VLLM_USE_NCCL_SYMM_MEM", "1")
    named = "VLLM_USE_NCCL_SYMM_MEM has one all-reduce for each process, over all GPUs of the replica"
    assert [tensor_group_problem(degree) for degree in degrees] == [None, named, named, None]


def test_what_vllm_gives_every_multimodal_model_names_it(models: Path) -> None:
    """vllm/config/model.py sets it where the model's class takes images or sound; the configuration of one that takes
    images, as Qwen3-VL, cannot be made here, for it imports torchvision."""
    from shift_engine.compat.configuration import configuration_problem
    from vllm.config.multimodal import MultiModalConfig

    config = configured(models / "llama")
    config.model_config.multimodal_config = MultiModalConfig()
    assert configuration_problem(config, v2=False) == "the overlay does not support multimodal models yet"
