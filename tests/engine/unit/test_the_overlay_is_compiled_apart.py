"""The overlay's compilation settings are its own, and its graph is cut at the all-to-all."""

import torch
from shift_engine.compat.compilation import HOST_FUSIONS, overlay_compilation
from vllm.compilation.backends import split_graph
from vllm.config import CompilationConfig
from vllm.config.compilation import CUDAGraphMode


def host() -> CompilationConfig:
    config = CompilationConfig(
        cudagraph_mode=CUDAGraphMode.FULL_AND_PIECEWISE, compile_sizes=[8], compile_ranges_endpoints=[512, 2048]
    )
    config.static_forward_context = {"model.layers.0.self_attn.attn": object()}
    config.pass_config.fuse_allreduce_rms = True
    config.traced_files.add("llama.py")
    config.enabled_custom_ops["rms_norm"] += 1
    return config


def test_the_overlay_has_no_graphs_and_none_of_the_hosts_fusions() -> None:
    overlay = overlay_compilation(host(), "shift_2x1")
    assert overlay.cudagraph_mode is CUDAGraphMode.NONE
    assert not any(getattr(overlay.pass_config, fusion) for fusion in HOST_FUSIONS)
    assert [(one.start, one.end) for one in overlay.get_compile_ranges()] == [(1, 2048)]
    assert overlay.compile_sizes == []


def test_the_host_keeps_its_own() -> None:
    config = host()
    before = repr(config)
    overlay = overlay_compilation(config, "shift_2x1")
    overlay.static_forward_context["another"] = object()
    overlay.traced_files.clear()
    overlay.enabled_custom_ops.clear()
    overlay.static_all_moe_layers.append("experts")
    assert repr(config) == before
    assert config.pass_config.fuse_allreduce_rms
    assert list(config.static_forward_context) == ["model.layers.0.self_attn.attn"]
    assert config.traced_files == {"llama.py"}
    assert config.enabled_custom_ops == {"rms_norm": 1}


def test_a_cache_directory_of_the_user_is_not_shared() -> None:
    config = host()
    config.cache_dir = "cache"
    assert overlay_compilation(config, "shift_2x1").cache_dir == "cache/shift_2x1"
    assert overlay_compilation(host(), "shift_2x1").cache_dir == ""  # vLLM derives it from the configuration's hash


def test_the_graph_is_cut_at_each_attention() -> None:
    def two_layers(x: torch.Tensor) -> torch.Tensor:
        for layer in ("2x1:first", "2x1:second"):
            out = torch.empty_like(x)
            torch.ops.shift.ulysses_attention(x + 1, x, x, out, layer)
            x = out * 2
        return x

    traced = torch.fx.symbolic_trace(two_layers)
    splitting_ops = overlay_compilation(host(), "shift_2x1").splitting_ops
    assert splitting_ops is not None
    _, pieces = split_graph(traced, splitting_ops)
    assert [piece.is_splitting_graph for piece in pieces] == [False, True, False, True, False]
