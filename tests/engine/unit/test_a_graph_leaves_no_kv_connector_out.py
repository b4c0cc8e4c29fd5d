"""vLLM calls a KV connector around each layer's attention, by Python that a replayed graph does not run."""

import ast
import inspect
import textwrap
from types import SimpleNamespace
from typing import Any

import pytest
from shift_engine.compat.kv_connectors import WITHOUT_HOOKS, works_by_layer
from shift_engine.compat.step_graphs import StepGraphs
from vllm.config import KVTransferConfig
from vllm.config.compilation import CUDAGraphMode
from vllm.distributed.kv_transfer.kv_connector.factory import KVConnectorFactory

HOOKS = ("wait_for_layer_load", "save_kv_layer")
OF_PACKAGES_THAT_ARE_NOT_HERE = {"LMCacheMPConnector"}  # imports lmcache


def configuration(connector: str | None, **extra: Any) -> Any:
    if connector is None:
        return SimpleNamespace(kv_transfer_config=None)
    transfer = KVTransferConfig(connector, kv_role="kv_both", kv_connector_extra_config=extra)
    return SimpleNamespace(kv_transfer_config=transfer)


def does_nothing(method: Any) -> bool:
    """Its body is a docstring and `pass` or `return`."""
    body = ast.parse(textwrap.dedent(inspect.getsource(method))).body[0].body  # type: ignore[attr-defined]
    return all(
        isinstance(each, ast.Pass)
        or (isinstance(each, ast.Return) and each.value is None)
        or (isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant))
        for each in body
    )


@pytest.mark.parametrize("name", sorted(WITHOUT_HOOKS - OF_PACKAGES_THAT_ARE_NOT_HERE))
def test_connectors_that_graphs_may_pass_by_do_nothing_in_a_layer(name: str) -> None:
    connector = KVConnectorFactory.get_connector_class(KVTransferConfig(name, kv_role="kv_both"))
    assert [hook for hook in HOOKS if not does_nothing(getattr(connector, hook))] == []


@pytest.mark.parametrize(
    ("connector", "extra", "named"),
    [
        (None, {}, None),
        ("NixlConnector", {}, None),
        ("ExampleConnector", {}, "ExampleConnector"),
        ("LMCacheConnectorV1", {}, "LMCacheConnectorV1"),  # by layer or not, as a file of its own says
        ("SomebodysConnector", {}, "SomebodysConnector"),
        ("MultiConnector", {"connectors": [{"kv_connector": "NixlConnector"}]}, None),
        (
            "MultiConnector",
            {
                "connectors": [
                    {"kv_connector": "OffloadingConnector"},
                    {
                        "kv_connector": "MultiConnector",
                        "kv_connector_extra_config": {"connectors": [{"kv_connector": "MoRIIOConnector"}]},
                    },
                ]
            },
            "MoRIIOConnector",
        ),
    ],
)
def test_others_are_named(connector: str | None, extra: dict[str, Any], named: str | None) -> None:
    assert works_by_layer(configuration(connector, **extra)) == named


def test_a_class_from_elsewhere_is_another_than_vllm_s_of_that_name() -> None:
    found = configuration("NixlConnector")
    found.kv_transfer_config.kv_connector_module_path = "somebody.s.module"
    assert works_by_layer(found) == "NixlConnector"


@pytest.mark.parametrize(
    ("mode", "connector", "problem"),
    [
        (CUDAGraphMode.PIECEWISE, None, "cudagraph_mode PIECEWISE replays no whole step"),
        (CUDAGraphMode.FULL_AND_PIECEWISE, "ExampleConnector", "ExampleConnector loads or saves the KV cache layer"),
        (CUDAGraphMode.FULL_AND_PIECEWISE, "NixlConnector", None),
    ],
)
def test_no_whole_step_is_captured_beside_them(mode: CUDAGraphMode, connector: str | None, problem: str | None) -> None:
    """vLLM itself takes whole graphs back for a connector that asks for it: cudagraph_mode is PIECEWISE then."""
    manager = SimpleNamespace(cudagraph_mode=mode, dispatch=None, run_fullgraph=None)
    runner = SimpleNamespace(
        cudagraph_manager=manager,
        vllm_config=configuration(connector),
        attn_groups=[],
    )
    found = StepGraphs(runner, SimpleNamespace()).problem  # type: ignore[arg-type]
    assert found == problem or (problem is not None and found is not None and found.startswith(problem))
