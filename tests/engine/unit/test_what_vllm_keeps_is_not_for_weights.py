"""An overlay's weights take what is left beside the memory that vLLM keeps, and beside a step."""

from types import SimpleNamespace
from typing import Any

import pytest
from shift_engine.compat.memory import kept_at_start, step_bytes

GIB = 2**30


def started(kv_cache: int | None = None) -> Any:
    """A worker of a GPU of 80 GiB, of which vLLM may have 90 per cent."""
    snapshot = SimpleNamespace(free_memory=80 * GIB)
    return SimpleNamespace(
        cache_config=SimpleNamespace(kv_cache_memory_bytes=kv_cache), init_snapshot=snapshot, requested_memory=72 * GIB
    )


def test_what_it_was_told_to_leave_stays_free() -> None:
    assert kept_at_start(started()) == 8 * GIB


def test_a_kv_cache_of_a_given_size_has_its_room() -> None:
    """--gpu-memory-utilization says nothing then."""
    assert kept_at_start(started(20 * GIB)) == 20 * GIB


def test_the_machine_s_memory_is_shared_on_cpu() -> None:
    assert kept_at_start(SimpleNamespace(cache_config=SimpleNamespace(kv_cache_memory_bytes=None))) == 0


@pytest.mark.parametrize(("estimated", "graphs"), [("1", 1), ("0", 0)])
def test_a_step_takes_what_was_measured_without_the_graphs(
    monkeypatch: pytest.MonkeyPatch, estimated: str, graphs: int
) -> None:
    """vLLM adds its estimate of them, unless it is told not to: they are there by the time that somebody asks."""
    monkeypatch.setenv("VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS", estimated)
    measured = SimpleNamespace(peak_activation_memory=(3 + graphs) * GIB, cudagraph_memory_estimate=GIB)
    assert step_bytes(measured) == 3 * GIB
    assert step_bytes(SimpleNamespace()) == 0
