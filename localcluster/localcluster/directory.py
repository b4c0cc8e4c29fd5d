"""A cluster's directory: claimed once, locked while a supervisor owns it, emptied at every start."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from localcluster.errors import AlreadyUp, LocalClusterError

MARK = ".localcluster"
LOCK = "supervisor.lock"
SUPERVISOR_LOG = "supervisor.log"
KEPT = (MARK, LOCK, SUPERVISOR_LOG)
FLOCK = "hhqqi"  # struct flock of 64-bit Linux: type, whence, start, length, pid
SECRETS = ("certificates", "etcd", "prometheus", "kubeconfig")


def claim(directory: Path) -> None:
    """Make it ours. Raises LocalClusterError where it holds files that no cluster made: they would be removed."""
    if directory.exists() and any(directory.iterdir()) and not (directory / MARK).exists():
        raise LocalClusterError(f"{directory} is not empty and no cluster made it; choose another --dir")
    directory.mkdir(parents=True, exist_ok=True)
    (directory / MARK).touch()


def clear(directory: Path) -> None:
    """Remove what an earlier cluster left in a claimed directory."""
    for entry in directory.iterdir():
        if entry.name not in KEPT:
            _remove(entry)


def forget_secrets(directory: Path) -> None:
    """Remove what is of no use once the processes are gone: data, certificates, kubeconfigs. Logs stay."""
    for entry in (*(directory / name for name in SECRETS), *directory.glob("*.kubeconfig")):
        _remove(entry)


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Own the directory for as long as the context (or this process) lasts. Raises AlreadyUp."""
    with (directory / LOCK).open("w") as lock:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise AlreadyUp(
                f"the cluster in {directory} is up already; `localcluster env` prints how to use it, "
                "`localcluster down` ends it"
            ) from None
        yield


def owner(directory: Path) -> int | None:
    """The pid of the other process that holds the lock, by the kernel's word; None when nobody does."""
    try:
        lock = (directory / LOCK).open()
    except FileNotFoundError:
        return None
    with lock:
        asked = struct.pack(FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, pid = struct.unpack(FLOCK, fcntl.fcntl(lock, fcntl.F_GETLK, asked))
    return None if kind == fcntl.F_UNLCK else int(pid)


def _remove(entry: Path) -> None:
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry, ignore_errors=True)
    else:
        with contextlib.suppress(FileNotFoundError):
            entry.unlink()
