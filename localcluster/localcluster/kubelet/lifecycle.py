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


def uninitialized(records: Sequence[ContainerRecord]) -> list[str]:
    """Init containers that have yet to succeed, sidecars that have yet to start; none once a main container ran."""
    if any(record.role is Role.MAIN and (record.ended or isinstance(record.state, Running)) for record in records):
        return []
    return [
        record.name
        for record in records
        if (record.role is Role.SIDECAR and not record.started)
        or (record.role is Role.INIT and not (record.ended and record.ended.exit_code == 0))
    ]


def phase_of(records: Sequence[ContainerRecord], restart_policy: str) -> Phase:
    """The phase by the containers alone (pkg/kubelet: getPhase). No pod is over while a sidecar of it runs."""
    init = [record for record in records if record.role is Role.INIT]
    beside = any(record.role is Role.SIDECAR and isinstance(record.state, Running) for record in records)
    failed = restart_policy == "Never" and any(record.ended and record.ended.exit_code != 0 for record in init)
    if failed and not beside:
        return Phase.FAILED
    if failed or uninitialized(records):
        return Phase.PENDING
    mains = [record for record in records if record.role is Role.MAIN]
    running = any(isinstance(record.state, Running) for record in mains)
    if any(record.ended is None and not isinstance(record.state, Running) for record in mains):
        return Phase.PENDING
    if running or beside or restart_policy == "Always":
        return Phase.RUNNING
    if all(record.ended and record.ended.exit_code == 0 for record in mains):
        return Phase.SUCCEEDED
    return Phase.FAILED if restart_policy == "Never" else Phase.RUNNING
