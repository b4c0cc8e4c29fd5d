"""Where a pod's files lie: everything a pod writes is below its own directory, which goes with the pod.

ROOT/pods/<uid>/volumes/<name>/            volumes
ROOT/pods/<uid>/containers/<name>/<n>.log  attempt n's log
                                 /root     HOME and working directory; fresh at every start, like a container's
                                 /tmp      TMPDIR; fresh as well
                                 /mounts   copies for subPath mounts
                                 /termination-log, /kubeconfig
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ContainerDir:
    """One container's directory."""

    path: Path

    @property
    def root(self) -> Path:
        return self.path / "root"

    @property
    def tmp(self) -> Path:
        return self.path / "tmp"

    @property
    def mounts(self) -> Path:
        return self.path / "mounts"

    @property
    def termination_log(self) -> Path:
        return self.path / "termination-log"

    @property
    def kubeconfig(self) -> Path:
        return self.path / "kubeconfig"

    def log(self, attempt: int) -> Path:
        return self.path / f"{attempt}.log"

    def renew(self, attempt: int) -> None:
        """A clean file system for this attempt; of the logs only the one before is kept."""
        for scratch in (self.root, self.tmp, self.mounts):
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir(parents=True)
        self.termination_log.write_bytes(b"")
        for log in self.path.glob("*.log*"):
            if int(log.name.partition(".")[0]) < attempt - 1:
                log.unlink()


@dataclass(frozen=True)
class PodDir:
    """One pod's directory."""

    path: Path

    @property
    def volumes(self) -> Path:
        return self.path / "volumes"

    def container(self, name: str) -> ContainerDir:
        return ContainerDir(self.path / "containers" / name)

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


def pods_below(root: Path) -> Path:
    return root / "pods"
