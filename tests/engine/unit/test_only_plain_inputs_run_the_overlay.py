"""The switch: what a forward is given decides whether the overlay can run it."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from shift_engine.degree import Degree
from shift_engine.forward import ForwardSwitch
from shift_engine.steps import FallbackReason, StepOutcome

TENSOR, SEQUENCE = Degree(1, 2), Degree(2, 1)
IDS = POSITIONS = torch.arange(3)
PLAIN = {"input_ids": IDS, "positions": POSITIONS, "intermediate_tensors": None, "inputs_embeds": None}


class Host(torch.nn.Module):
    """Says that it was the host that ran."""

    def forward(self, *args: Any, **inputs: Any) -> str:
        return "host"


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
def switch(host: Host) -> ForwardSwitch:
    overlay = SimpleNamespace(
        degree=SEQUENCE, pad_tokens=lambda tokens: tokens % 2, forward=lambda ids, positions, rows: "overlay"
    )
    switch = ForwardSwitch(host, gpus=2)
    switch.install(overlay)
    return switch


def test_token_ids_and_positions_run_the_overlay(host: Host, switch: ForwardSwitch) -> None:
    for inputs in (PLAIN, {"input_ids": IDS, "positions": POSITIONS}):
        switch.arm(SEQUENCE)
        assert host(**inputs) == "overlay"
        assert switch.disarm() == StepOutcome(SEQUENCE, pad_tokens=1)


@pytest.mark.parametrize(
    "more",
    [
        {"inputs_embeds": IDS},
        {"intermediate_tensors": IDS},
        {"deepstack_input_embeds": None},  # unknown here, whatever it holds
        {"positions": POSITIONS.expand(3, 3)},  # three rows of positions, of images
        {"input_ids": None},
    ],
)
def test_anything_else_runs_the_host_and_is_a_fallback(host: Host, switch: ForwardSwitch, more: dict[str, Any]) -> None:
    switch.arm(SEQUENCE)
    assert host(**PLAIN | more) == "host"
    assert switch.disarm() == StepOutcome(TENSOR, fallback=FallbackReason.INPUTS)


def test_a_step_of_the_hosts_own_degree_is_no_fallback(host: Host, switch: ForwardSwitch) -> None:
    switch.arm(TENSOR)
    assert host(**PLAIN | {"inputs_embeds": IDS}) == "host"
    assert switch.disarm() == StepOutcome(TENSOR)
