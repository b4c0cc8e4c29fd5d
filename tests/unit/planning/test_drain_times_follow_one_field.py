"""A replica's last seconds: SIGKILL never comes before vLLM has had its whole time to finish."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st
from shift_operator.api.rollout import Drain
from shift_operator.api.shiftdeployment import ShiftDeployment
from shift_operator.planning.drain import grace_period_seconds, pre_stop, shutdown_timeout_seconds
from shift_operator.planning.pod import pod_spec


@given(st.integers(1, 3600))
def test_the_grace_period_covers_settling_and_finishing(seconds: int) -> None:
    drain = Drain(timeout_seconds=seconds)
    settling = pre_stop()["sleep"]["seconds"]
    assert shutdown_timeout_seconds(drain) == seconds
    assert grace_period_seconds(drain) > settling + seconds


def test_the_pod_has_them(a_deployment: Callable[..., ShiftDeployment]) -> None:
    spec = pod_spec(a_deployment(drain={"timeoutSeconds": 30}))
    (engine,) = spec["containers"]
    assert spec["terminationGracePeriodSeconds"] == 50
    assert engine["lifecycle"] == {"preStop": {"sleep": {"seconds": 5}}}
    assert engine["args"][engine["args"].index("--shutdown-timeout") + 1] == "30"
