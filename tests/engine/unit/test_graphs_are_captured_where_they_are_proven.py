"""Which overlays get CUDA graphs, by `--shift-graphs` and by whether the model has experts."""

import pytest
from shift_engine.config import ShiftConfig


@pytest.mark.parametrize(
    ("graphs", "dense", "with_experts"),
    [("auto", True, False), ("on", True, True), ("off", False, False)],
)
def test_experts_have_graphs_only_where_they_are_asked_for(graphs: str, dense: bool, with_experts: bool) -> None:
    config = ShiftConfig("2x1", graphs=graphs)
    assert config.captures(has_experts=False) is dense
    assert config.captures(has_experts=True) is with_experts


def test_auto_is_the_default() -> None:
    assert ShiftConfig("2x1").graphs == "auto"
