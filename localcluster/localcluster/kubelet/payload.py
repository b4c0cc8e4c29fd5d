"""Writes a volume's files as the kubelet does: readers see either all old files or all new ones.

    volume/config.json -> ..data/config.json
    volume/..data      -> ..2026_11_24_11_00_00.123456789   (one rename swaps it)

(pkg/volume/util/atomic_writer.go). Watchers of a file see its directory's `..data` change, never a half-written file.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class File:
    """One file of a volume."""

    content: bytes
    mode: int = 0o644


Payload = Mapping[str, File]
"""Relative path -> file."""


def write(volume: Path, payload: Payload) -> bool:
    """Make `volume` hold exactly `payload`. False if it already did, and then nothing is touched."""
    volume.mkdir(parents=True, exist_ok=True)
    data = volume / "..data"
    old = data.resolve() if data.is_symlink() else None
    if old is not None and _read(old) == dict(payload):
        return False
    now = time.time_ns()
    fresh = volume / time.strftime(f"..%Y_%m_%d_%H_%M_%S.{now % 10**9:09d}", time.gmtime(now // 10**9))
    for name, file in payload.items():
        path = fresh / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.content)
        path.chmod(file.mode)
    fresh.mkdir(exist_ok=True)
    swap = volume / "..data_tmp"
    swap.unlink(missing_ok=True)
    swap.symlink_to(fresh.name)
    os.replace(swap, data)
    tops = {Path(name).parts[0] for name in payload}
    for top in tops:
        link = volume / top
        if not link.is_symlink():
            link.symlink_to(f"..data/{top}")
    for entry in volume.iterdir():
        if entry.is_symlink() and entry.name != "..data" and entry.name not in tops:
            entry.unlink()
    if old is not None:
        shutil.rmtree(old)
    return True


def _read(directory: Path) -> dict[str, File]:
    return {
        str(path.relative_to(directory)): File(path.read_bytes(), path.stat().st_mode & 0o777)
        for path in directory.rglob("*")
        if path.is_file()
    }
