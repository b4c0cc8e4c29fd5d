"""vLLM 0.32's API process: which of several it is, and what its client of the engine does as it ends."""

from collections.abc import Callable
from typing import Any


def is_first(vllm_config: Any) -> bool:
    """False in the API processes after the first (--api-server-count)."""
    return bool(vllm_config.parallel_config._api_process_rank <= 0)


def kv_cache_tokens(vllm_config: Any) -> int | None:
    """Tokens that the KV cache holds, the same on every rank; None of a model without one. The engine core tells it
    when it is up (v1/engine/core_client.py)."""
    tokens: int | None = vllm_config.cache_config.kv_cache_size_tokens
    return tokens


def before_shutdown(engine: Any, prepare: Callable[[float | None], float | None]) -> None:
    """Let `prepare` come before the first shutdown of the client `engine`, on the instance. It gets the seconds that
    vLLM has for what is running (--shutdown-timeout), and gives back how many are left."""
    shutdown = engine.shutdown

    def ending(timeout: float | None = None) -> Any:
        engine.shutdown = shutdown
        return shutdown(timeout=prepare(timeout))

    engine.shutdown = ending
