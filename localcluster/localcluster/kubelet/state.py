"""What is known of a pod's containers: the words that lifecycle, status and worker share. Plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from localcluster.kubelet.objects import Json


class Role(Enum):
    """When a container runs: before the others to its end, before them and on, or with them."""

    INIT = "init"
    SIDECAR = "sidecar"
    MAIN = "main"


@dataclass(frozen=True)
class Waiting:
    """Not running, and why: `ContainerCreating`, `CrashLoopBackOff`, `ImagePullBackOff`, ..."""

    reason: str
    message: str = ""


@dataclass(frozen=True)
class Running:
    """Its process runs; Unix seconds."""

    started_at: float


@dataclass(frozen=True)
class Terminated:
    """Its process ended. `signal` is None for an ordinary exit; the exit code is then its own, else 128 + signal."""

    exit_code: int
    reason: str
    message: str
    started_at: float
    finished_at: float
    container_id: str = ""
    signal: int | None = None


State = Waiting | Running | Terminated


@dataclass
class ContainerRecord:
    """One container of a pod, over all its attempts."""

    spec: Json
    role: Role
    state: State = field(default_factory=lambda: Waiting("ContainerCreating"))
    last: Terminated | None = None
    restarts: int = 0
    started: bool = False
    ready: bool = False
    container_id: str = ""
    retry_at: float = 0.0
    """Unix seconds before which it is not started again: crash back-off, image back-off, a missing ConfigMap."""

    @property
    def name(self) -> str:
        return str(self.spec["name"])

    @property
    def ended(self) -> Terminated | None:
        """How the newest attempt ended, None while it runs or before the first; in back-off `last` has it."""
        if isinstance(self.state, Terminated):
            return self.state
        return self.last if isinstance(self.state, Waiting) else None


def records_of(pod: Json) -> list[ContainerRecord]:
    """A record per container, init containers first. Those behind an init container wait for it (`PodInitializing`)."""
    spec = pod["spec"]
    init = [
        ContainerRecord(one, Role.SIDECAR if one.get("restartPolicy") == "Always" else Role.INIT)
        for one in spec.get("initContainers", [])
    ]
    records = init + [ContainerRecord(one, Role.MAIN) for one in spec["containers"]]
    if init:
        for record in records:
            record.state = Waiting("PodInitializing")
    return records
