"""Init containers one by one, sidecars beside them, then the rest; restarts by policy; the phase that follows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from localcluster.kubelet.lifecycle import Phase, next_step, phase_of, uninitialized
from localcluster.kubelet.state import ContainerRecord, Running, State, Terminated, Waiting, records_of

RUNNING = Running(0)


def ended(code: int) -> Terminated:
    return Terminated(code, "Error" if code else "Completed", "", 0, 1)


def a_pod(*init: str, sidecars: tuple[str, ...] = (), mains: tuple[str, ...] = ("main",)) -> list[ContainerRecord]:
    inits = [{"name": name} | ({"restartPolicy": "Always"} if name in sidecars else {}) for name in init]
    return records_of({"spec": {"initContainers": inits, "containers": [{"name": name} for name in mains]}})


def starts(records: list[ContainerRecord], policy: str = "Always") -> list[str]:
    return [record.name for record in next_step(records, policy, now=10).start]


def test_all_main_containers_start_at_once() -> None:
    assert starts(a_pod(mains=("a", "b"))) == ["a", "b"]


def test_init_containers_go_one_after_the_other() -> None:
    records = a_pod("first", "second")
    assert starts(records) == ["first"]
    records[0].state = RUNNING
    assert starts(records) == []
    records[0].state = ended(0)
    assert starts(records) == ["second"]
    records[1].state = ended(0)
    assert starts(records) == ["main"]


def test_a_sidecar_lets_the_next_go_once_it_has_started_and_stays() -> None:
    records = a_pod("proxy", "init", sidecars=("proxy",))
    records[0].state = RUNNING
    assert starts(records) == []
    records[0].started = True
    assert starts(records) == ["init"]
    records[1].state = ended(0)
    records[0].state, records[0].started = ended(1), False
    assert starts(records) == ["proxy"]


def test_a_failed_init_container_is_repeated_or_fails_the_pod() -> None:
    records = a_pod("init")
    records[0].state = ended(1)
    assert starts(records, "OnFailure") == ["init"]
    assert next_step(records, "Never", now=10).over is Phase.FAILED
    assert phase_of(records, "Never") is Phase.FAILED
    assert phase_of(records, "Always") is Phase.PENDING


@pytest.mark.parametrize(
    ("policy", "code", "again"),
    [("Always", 0, True), ("Always", 1, True), ("OnFailure", 0, False), ("OnFailure", 1, True), ("Never", 1, False)],
)
def test_the_restart_policy(policy: str, code: int, again: bool) -> None:
    records = a_pod()
    records[0].state = ended(code)
    step = next_step(records, policy, now=10)
    assert bool(step.start) is again
    assert step.over is (None if again else Phase.FAILED if code else Phase.SUCCEEDED)


def test_a_container_in_back_off_waits_for_its_time() -> None:
    records = a_pod()
    records[0].state, records[0].last, records[0].retry_at = Waiting("CrashLoopBackOff"), ended(1), 11
    assert next_step(records, "Always", now=10).waiting == (records[0],)
    assert next_step(records, "Always", now=11).start == (records[0],)
    assert phase_of(records, "Always") is Phase.RUNNING


def test_a_pod_is_pending_until_each_main_container_ran() -> None:
    records = a_pod(mains=("a", "b"))
    records[0].state = RUNNING
    assert phase_of(records, "Always") is Phase.PENDING
    records[1].state = RUNNING
    assert phase_of(records, "Always") is Phase.RUNNING


def test_a_pod_is_not_over_while_a_sidecar_runs() -> None:
    records = a_pod("proxy", sidecars=("proxy",))
    records[0].state, records[0].started, records[1].state = RUNNING, True, ended(0)
    assert next_step(records, "Never", now=10).over is Phase.SUCCEEDED  # which tells the worker to stop the sidecar
    assert phase_of(records, "Never") is Phase.RUNNING
    records[0].state, records[0].started = ended(143), False
    assert phase_of(records, "Never") is Phase.SUCCEEDED


def test_a_pod_once_initialized_stays_so() -> None:
    records = a_pod("proxy", sidecars=("proxy",))
    assert uninitialized(records) == ["proxy"]
    records[1].state = RUNNING
    assert uninitialized(records) == []


states = st.sampled_from([Waiting("ContainerCreating"), RUNNING, ended(0), ended(1)])


@given(st.lists(states, min_size=1, max_size=4), st.sampled_from(["Always", "OnFailure", "Never"]))
def test_a_pod_is_over_exactly_when_nothing_runs_or_will_run(kinds: list[State], policy: str) -> None:
    records = a_pod(mains=tuple(f"c{at}" for at in range(len(kinds))))
    for record, state in zip(records, kinds, strict=True):
        record.state = state
    step = next_step(records, policy, now=10)
    running = any(isinstance(state, Running) for state in kinds)
    assert (step.over is not None) == (not step.start and not step.waiting and not running)
    if step.over:
        assert phase_of(records, policy) is step.over
