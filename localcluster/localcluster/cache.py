"""Where binaries and clusters live: `$SHIFT_CACHE`, by default `~/.cache/shift-operator`."""

from __future__ import annotations

import os
from pathlib import Path


def cache_dir() -> Path:
    """The cache folder, absolute; it need not exist yet."""
    return Path(os.environ.get("SHIFT_CACHE") or "~/.cache/shift-operator").expanduser().absolute()


def cluster_dir(name: str) -> Path:
    """Where a cluster of that name lives unless `--dir` says otherwise."""
    return cache_dir() / "clusters" / name


def binaries_dir() -> Path:
    return cache_dir() / "bin"
