"""A probe's state moves only after so many equal results in a row."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from localcluster.kubelet.probe_handlers import PortError, port_number
from localcluster.kubelet.probe_state import ProbeKind, ProbeState, Timing

TIMING = Timing(initial_delay=0, period=1, timeout=1, successes=2, failures=3)


def test_readiness_starts_bad_and_needs_its_successes() -> None:
    state = ProbeState(ProbeKind.READINESS, TIMING)
    assert not state.good
    state.see(True)
    assert not state.good
    state.see(True)
    assert state.good


def test_liveness_starts_good_and_dies_at_the_third_failure_in_a_row() -> None:
    state = ProbeState(ProbeKind.LIVENESS, TIMING)
    for success in (False, False, True, False, False):
        state.see(success)
        assert state.good
    assert state.see(False)
    assert not state.good


def test_startup_is_unsettled_until_a_threshold_is_reached() -> None:
    state = ProbeState(ProbeKind.STARTUP, TIMING)
    assert not state.see(False)
    assert not state.see(True)
    assert not state.settled
    assert state.see(True)
    assert state.good


@given(st.lists(st.booleans(), max_size=60))
def test_readiness_is_what_was_last_seen_often_enough(results: list[bool]) -> None:
    state, expected, row = ProbeState(ProbeKind.READINESS, TIMING), False, 0
    for at, result in enumerate(results):
        row = row + 1 if at and results[at - 1] == result else 1
        if row >= (TIMING.successes if result else TIMING.failures):
            expected = result
        state.see(result)
        assert state.good == expected


def test_the_defaults_are_the_api_s() -> None:
    assert Timing.of({}) == Timing(initial_delay=0, period=10, timeout=1, successes=1, failures=3)


def test_a_port_may_be_a_name() -> None:
    container = {"name": "web", "ports": [{"name": "http", "containerPort": 8000}]}
    assert port_number("http", container) == port_number(8000, container) == port_number("8000", container) == 8000
    with pytest.raises(PortError, match='"metrics" in container web'):
        port_number("metrics", container)
