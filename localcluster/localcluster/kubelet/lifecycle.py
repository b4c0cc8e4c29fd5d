"""Which containers of a pod should start now, and whether the pod is over. Pure; the worker carries it out.

Init containers run one after the other to success, sidecars (init containers with restartPolicy Always) start in their
place and go on, then all others run at once (pkg/kubelet/kuberuntime: computePodActions, computeInitContainerActions).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from localcluster.kubelet.state import ContainerRecord, Role, Running, Terminated


class Phase(StrEnum):
    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


@dataclass(frozen=True)
class Step:
    """`start` these now; those in `waiting` may start at their `retry_at`; `over` once no container will run again."""

    start: tuple[ContainerRecord, ...] = ()
    waiting: tuple[ContainerRecord, ...] = ()
    over: Phase | None = None


def next_step(records: Sequence[ContainerRecord], restart_policy: str, now: float) -> Step:
    """What to do for a pod that is meant to run. `now` in Unix seconds."""
    wanted: list[ContainerRecord] = []
    for record in records:
        if record.role is Role.MAIN:
            break
        if record.role is Role.SIDECAR:
            if not isinstance(record.state, Running):
                wanted.append(record)
            if not record.started:
                return _split(wanted, now)
        elif not isinstance(record.ended, Terminated) or record.ended.exit_code != 0:
            if record.ended and restart_policy == "Never":
                return Step(over=Phase.FAILED)
            if not isinstance(record.state, Running):
                wanted.append(record)
            return _split(wanted, now)
    mains = [record for record in records if record.role is Role.MAIN]
    wanted += [record for record in mains if _runs_again(record, restart_policy)]
    if all(record.ended and not _runs_again(record, restart_policy) for record in mains):
        failed = any(record.ended and record.ended.exit_code != 0 for record in mains)
        return Step(over=Phase.FAILED if failed else Phase.SUCCEEDED)
    return _split(wanted, now)


def _runs_again(record: ContainerRecord, restart_policy: str) -> bool:
    if isinstance(record.state, Running):
        return False
    if record.ended is None:
        return True
    return restart_policy == "Always" or (restart_policy == "OnFailure" and record.ended.exit_code != 0)


def _split(wanted: list[ContainerRecord], now: float) -> Step:
    return Step(
        start=tuple(record for record in wanted if record.retry_at <= now),
        waiting=tuple(record for record in wanted if record.retry_at > now),
    )


def is_initialized(records: Sequence[ContainerRecord]) -> bool:
    """Every init container has succeeded and every sidecar has started."""
    return all(
        record.started if record.role is Role.SIDECAR else bool(record.ended and record.ended.exit_code == 0)
        for record in records
        if record.role is not Role.MAIN
    )


def phase_of(records: Sequence[ContainerRecord], restart_policy: str) -> Phase:
    """The phase by the containers alone (pkg/kubelet: getPhase)."""
    init = [record for record in records if record.role is Role.INIT]
    if restart_policy == "Never" and any(record.ended and record.ended.exit_code != 0 for record in init):
        return Phase.FAILED
    if not is_initialized(records):
        return Phase.PENDING
    mains = [record for record in records if record.role is Role.MAIN]
    running = any(isinstance(record.state, Running) for record in mains)
    if any(record.ended is None and not isinstance(record.state, Running) for record in mains):
        return Phase.PENDING
    if running or restart_policy == "Always":
        return Phase.RUNNING
    if all(record.ended and record.ended.exit_code == 0 for record in mains):
        return Phase.SUCCEEDED
    return Phase.FAILED if restart_policy == "Never" else Phase.RUNNING
