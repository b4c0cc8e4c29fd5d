"""How vLLM 0.32 compiles the overlay: the host's compilation settings, less what leans on the host's graphs."""

import copy
from collections import Counter
from pathlib import PurePath
from typing import Any

from vllm.config.compilation import CUDAGraphMode

from shift_engine.compat.custom_ops import ATTENTION

# They match the host's attention ops, which the overlay's graph does not hold, or a fused all-reduce whose buffers
# belong to the host's tensor group.
HOST_FUSIONS = (
    "fuse_attn_quant",
    "fuse_allreduce_rms",
    "fuse_rope_kvcache",
    "fuse_rope_kvcache_cat_mla",
    "fuse_qk_norm_rope_kvcache",
)


def overlay_compilation(host: Any, mark: str) -> Any:
    """-> a CompilationConfig for the overlay `mark`; what loading and compiling write to is its own.

    The graph is cut at the all-to-all attention as the host's is at its attention: the pieces of equal layers compile
    once, and the collectives run between them. No piece is captured: whole steps are (step_graphs.py). One range of
    sizes: vLLM's others are bounds of fusions that are off here.
    """
    config = copy.copy(host)
    config.static_forward_context = {}  # else layers would be registered twice
    config.static_all_moe_layers = []
    config.traced_files = set()
    config.enabled_custom_ops, config.disabled_custom_ops = Counter(), Counter()
    config.pass_config = copy.copy(host.pass_config)
    for fusion in HOST_FUSIONS:
        setattr(config.pass_config, fusion, False)
    config.splitting_ops = [ATTENTION]
    config.use_inductor_graph_partition = False
    config.cudagraph_mode = CUDAGraphMode.NONE
    config.compile_sizes = []  # the user's sizes are rows of the step, the overlay's are rows of a rank
    if host.compile_ranges_endpoints:
        config.compile_ranges_endpoints = [max(host.compile_ranges_endpoints)]
    if host.cache_dir:  # given by the user: both models would write to the same place
        config.cache_dir = str(PurePath(host.cache_dir, mark))
    return config
