"""Data parallelism with experts: the replicas' steps wait for each other, so all run plain tensor parallelism.

vLLM 0.32 on CPU starts it, but lacks two collectives for a step; a plugin brings them (cpu_gathers.py).
"""

import contextlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from cpu_gathers import write_plugin
from scenarios import token_prompts
from served import EAGER, POD_IP, Served, begin, free_port, schedule, serve, serving, wait_until_healthy
from test_a_replica_over_two_nodes_is_one_engine import tokens
from warm import WarmVllm, end_group

SMALL = ("--num-gpu-blocks-override", "64", "--skip-tokenizer-init")


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Qwen3-MoE."""
    sys.path.append(str(Path(__file__).parents[3] / "examples"))
    from tiny_model import write_model

    directory = tmp_path_factory.mktemp("mixture")
    write_model(directory, family="qwen3_moe", kv_heads=4, layers=2)
    return directory


@contextlib.contextmanager
def stock(warm: WarmVllm, model: Path, environment: dict[str, str], directory: Path, *flags: str) -> Iterator[Served]:
    """Stock vLLM with the same flags."""
    vllm = importlib.util.find_spec("vllm")
    assert vllm is not None
    assert vllm.origin is not None
    script = Path(vllm.origin).parent / "entrypoints" / "openai" / "api_server.py"
    port, log, end = free_port(), directory / "stock-log", directory / "none"
    _, _, _, *theirs = serve(model, port, "2x1")
    at = theirs.index("--shift-degree")
    del theirs[at : at + 2]
    process = begin(warm, [script, "--model", model, *theirs, *flags], environment | EAGER, log, end)
    http = httpx.Client(base_url=f"http://{POD_IP}:{port}", timeout=240)
    engine = Served(process, http, directory, end, log)
    try:
        wait_until_healthy(engine, log)
        yield engine
    finally:
        http.close()
        end_group(process)


def test_data_parallel_experts_answer_as_stock_vllm_and_name_the_reason(
    warm: WarmVllm, mixture: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    write_plugin(tmp_path)
    environment = environment | {"PYTHONPATH": f"{tmp_path}:{Path(__file__).parent}"}
    flags = ("--data-parallel-size", "2", *SMALL)
    prompts = token_prompts()[:4]
    with stock(warm, mixture, environment, tmp_path, *flags) as engine:
        expected = [tokens(engine, prompt) for prompt in prompts]
    asks_for_2x1 = schedule(3, 1)  # from 2 tokens on
    with serving(warm, mixture, environment, tmp_path, asks_for_2x1, *flags) as engine:
        assert [tokens(engine, prompt) for prompt in prompts] == expected
        shift = engine.until("the schedule", lambda shift: shift["schedule"]["generation"] == 3)
        assert shift["overlay"] == {"active": False, "reason": "the overlay does not support data parallelism yet"}
        assert shift["calibration"]["state"] == "Off"  # its steps would wait for the other replica's
        assert fallback_steps_at_last(engine) == {"OverlayInactive"}
        assert {sample.labels["sequence"] for sample in engine.metrics()["shift_steps"].samples} == {"1"}


def fallback_steps_at_last(engine: Served) -> set[str]:
    """The reasons that steps were counted under; the endpoint asks the ranks every two seconds."""

    def counted() -> set[str]:
        samples = engine.metrics()["shift_fallback_steps"].samples
        return {sample.labels["reason"] for sample in samples if sample.value > 0}

    engine.until("a step that fell back", lambda _: counted())
    return counted()
