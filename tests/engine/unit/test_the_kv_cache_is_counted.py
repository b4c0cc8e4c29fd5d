"""What GET /shift tells of the KV cache's bytes, whatever vLLM keeps for a layer."""

from types import SimpleNamespace

import torch
from shift_engine.compat.memory import kv_cache_tensors
from shift_engine.shared_weights import distinct_bytes


def test_layers_with_a_state_of_several_tensors_count_with_all_of_them() -> None:
    attention, state = torch.zeros(16, 4), [torch.zeros(3), torch.zeros(5)]
    runner = SimpleNamespace(kv_caches=[attention, state])
    assert distinct_bytes(kv_cache_tensors(runner)) == 4 * (64 + 3 + 5)


def test_a_model_without_a_kv_cache_has_none() -> None:
    assert distinct_bytes(kv_cache_tensors(SimpleNamespace(kv_caches=[]))) == 0
    assert distinct_bytes(kv_cache_tensors(SimpleNamespace())) == 0
