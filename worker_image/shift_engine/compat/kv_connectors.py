"""vLLM 0.32's KV connectors: which of them work within a step. A replayed graph calls nothing of theirs."""

from collections.abc import Iterator, Mapping
from typing import Any

# Their `wait_for_layer_load` and `save_kv_layer`, which vLLM calls around each layer's attention, do nothing.
WITHOUT_HOOKS = frozenset(
    {
        "DecodeBenchConnector",
        "ExampleHiddenStatesConnector",
        "HF3FSKVConnector",
        "HiSparseConnector",
        "LMCacheMPConnector",
        "MooncakeConnector",
        "MooncakeStoreConnector",
        "NixlConnector",
        "NixlPullConnector",
        "NixlPushConnector",
        "OffloadingConnector",
        "SimpleCPUOffloadConnector",
    }
)


def works_by_layer(vllm_config: Any) -> str | None:
    """The first KV connector of this configuration that may load or save a layer's cache while the step runs."""
    transfer = vllm_config.kv_transfer_config
    if transfer is None or transfer.kv_connector is None:
        return None
    return next(_with_hooks(vars(transfer)), None)


def _with_hooks(transfer: Mapping[str, Any]) -> Iterator[str]:
    """A MultiConnector's children in its place."""
    name, from_elsewhere = transfer["kv_connector"], transfer.get("kv_connector_module_path")
    if name == "MultiConnector" and not from_elsewhere:
        for child in transfer.get("kv_connector_extra_config", {}).get("connectors", ()):
            yield from _with_hooks(child)
    elif name not in WITHOUT_HOOKS or from_elsewhere:
        yield name
