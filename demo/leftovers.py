"""What a torn-down cluster left running: each process whose command line, environment or folder names its directory."""

from __future__ import annotations

import os
from pathlib import Path


def processes_of(directory: Path) -> list[str]:
    """One line per process, `pid command`; empty when nothing is left. Reads /proc, so Linux alone."""
    wanted = os.fsencode(str(directory))
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            command = (entry / "cmdline").read_bytes()
            if command and (
                wanted in command
                or wanted in (entry / "environ").read_bytes()
                or wanted in os.fsencode(os.readlink(entry / "cwd"))
            ):
                found.append(f"{entry.name} {command.replace(bytes(1), b' ').decode(errors='replace').strip()[:160]}")
        except OSError:
            continue  # it ended meanwhile, or belongs to somebody else
    return found
