"""What can go wrong, by what a caller can do about it.

LocalClusterError
    NotBuilt         a binary is missing: `localcluster build`
    BuildFailed      Go could not build it: the log says why
    NoNetwork        every cluster index, or every port of this cluster's block, is taken
    NotUp, AlreadyUp the command asks for the other state
    ComponentDied    a component's process ended on its own: exit code and last lines
    NotReady         a component runs but does not answer in time
    CommandFailed    kubectl or helm was refused
"""

from __future__ import annotations

from pathlib import Path


class LocalClusterError(Exception):
    """Base of all of them; its text is a whole sentence for a person."""


class NotBuilt(LocalClusterError):
    """Binaries that are neither in KUBEBUILDER_ASSETS nor in the cache."""


class BuildFailed(LocalClusterError):
    """A binary, or the toolchain to build it, could not be made."""


class NoNetwork(LocalClusterError):
    """No free index or port is left for a cluster."""


class NotUp(LocalClusterError):
    """The cluster does not run."""


class AlreadyUp(LocalClusterError):
    """The cluster runs already."""


class ComponentDied(LocalClusterError):
    """A component ended although nobody asked it to."""

    def __init__(self, name: str, exit_code: int, log: Path, last_lines: str) -> None:
        how = f"was killed by signal {-exit_code}" if exit_code < 0 else f"ended with exit code {exit_code}"
        super().__init__(f"{name} {how}; the last lines of {log}:\n{last_lines}")
        self.name, self.exit_code = name, exit_code


class NotReady(LocalClusterError):
    """A component did not become ready within its time."""

    def __init__(self, name: str, seconds: float, why: str, log: Path, last_lines: str) -> None:
        super().__init__(f"{name} was not ready after {seconds:.0f} s ({why}); the last lines of {log}:\n{last_lines}")
        self.name = name


class CommandFailed(LocalClusterError):
    """A client command ended with another code than 0."""

    def __init__(self, command: str, exit_code: int, stderr: str) -> None:
        super().__init__(f"`{command}` ended with exit code {exit_code}: {stderr.strip()}")
        self.exit_code, self.stderr = exit_code, stderr
