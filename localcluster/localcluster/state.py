"""What a running cluster says of itself in `state.json`, for the commands that come after `up`."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass
from pathlib import Path

from localcluster import certificates, directory
from localcluster.certificates import Identity
from localcluster.cluster import Cluster
from localcluster.errors import NotUp
from localcluster.health import why_not_ready

FILE = "state.json"
READY = "ready"


@dataclass(frozen=True)
class ComponentState:
    """A component as it was started; `started_at` in seconds since the epoch."""

    name: str
    pid: int
    address: str
    health: str
    started_at: float


@dataclass(frozen=True)
class State:
    """`environment` holds the variables of `localcluster env`; `path` is the folder that goes before PATH."""

    supervisor: int
    components: tuple[ComponentState, ...]
    environment: dict[str, str]
    path: str


def write(cluster: Cluster) -> None:
    """Describe a cluster that is up."""
    components = []
    for component in cluster.components:
        process = cluster.process(component.name)
        components.append(
            ComponentState(component.name, process.pid or 0, component.address, component.health, process.started_at)
        )
    environment = {name: value for name, value in cluster.environment().items() if name != "PATH"}
    state = State(os.getpid(), tuple(components), environment, str(cluster.directory / "bin"))
    unfinished = cluster.directory / f".{FILE}"
    unfinished.write_text(json.dumps(dataclasses.asdict(state), indent=1))
    unfinished.rename(cluster.directory / FILE)


def read(path: Path) -> State:
    """The state of the cluster in `path`. Raises NotUp, also when its supervisor was killed."""
    file = path / FILE
    if directory.owner(path) is None or not file.exists():
        raise NotUp(f"no cluster is up in {path}; `localcluster up` starts one")
    fields = json.loads(file.read_text())
    components = tuple(ComponentState(**one) for one in fields.pop("components"))
    return State(components=components, **fields)


def healths(path: Path, state: State) -> list[str]:
    """For each component READY, or what is wrong with it."""
    files = path / "certificates"
    tls = certificates.client_context(files / "ca.crt", Identity(files / "admin.crt", files / "admin.key"))
    return [
        (why_not_ready(one.health, tls) or READY) if _is_child(one.pid, state.supervisor) else "died"
        for one in state.components
    ]


def _is_child(pid: int, parent: int) -> bool:
    """Whether `pid` still is that process: pids are used again, a parent's children are its own."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return fields[0] != "Z" and int(fields[1]) == parent
