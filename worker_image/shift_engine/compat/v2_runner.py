"""vLLM 0.32's V2 model runner, the default on GPUs: which graph a step replays, and dummy steps."""

from collections.abc import Callable
from typing import Any

import torch


def steer_graphs(runner: Any, is_armed: Callable[[], bool]) -> None:
    """Steps for which `is_armed()` run eagerly; every other step is dispatched as stock vLLM does.

    A FULL graph replays the host's kernels without calling its forward (v1/worker/gpu/cudagraph_utils.py), so a step of
    the overlay must not match one. Set on the instance of the manager, before it captures.
    """
    manager = runner.cudagraph_manager
    if manager is None:
        return
    stock_dispatch = manager.dispatch

    def dispatch(
        num_reqs: int,
        num_tokens: int,
        uniform_token_count: int | None,
        num_active_loras: int,
        max_query_len: int | None = None,
        num_ubatches: int = 1,
    ) -> Any:
        if is_armed():
            return _eager(num_reqs, num_tokens, num_active_loras, num_ubatches)
        return stock_dispatch(num_reqs, num_tokens, uniform_token_count, num_active_loras, max_query_len, num_ubatches)

    manager.dispatch = dispatch


def _eager(num_reqs: int, num_tokens: int, num_active_loras: int, num_ubatches: int) -> Any:
    from vllm.config.compilation import CUDAGraphMode
    from vllm.v1.worker.gpu.cudagraph_utils import BatchExecutionDescriptor

    return BatchExecutionDescriptor(
        cg_mode=CUDAGraphMode.NONE,
        num_tokens=num_tokens,
        num_reqs=num_reqs,
        num_active_loras=num_active_loras,
        num_ubatches=num_ubatches,
    )


def dummy_step(runner: Any, tokens: int, *, randomized: bool) -> torch.Tensor:
    """One forward over `tokens` rows, as serving would run it. -> hidden states [n, d].

    Writes nothing into the KV cache: a dummy run's slots are all padding. With `randomized` the token ids are random,
    the same on every rank and in every mode.
    """
    if randomized:
        torch.cuda.manual_seed(tokens)
    hidden, _ = runner._dummy_run(tokens, uniform_decode=tokens == 1, skip_eplb=True, randomize_inputs=randomized)
    return hidden[:tokens]
