"""The wall clock of processes that are started with it, to be set while they run.

A small library is compiled and preloaded (clock.c), so that the process itself is untouched; needs no root, but `cc`.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_suffix(".c")


class Clock:
    """`environment` is what a process must be started with; `set_off` then holds for all that were."""

    def __init__(self, directory: Path) -> None:
        compiler = shutil.which("cc")
        if compiler is None:
            pytest.fail("tests/chaos/clock.c needs a C compiler; install one as `cc` (Debian: apt-get install gcc)")
        library = directory / "clock.so"
        subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"], check=True)
        self._offset = directory / "clock-offset"
        self._offset.write_bytes(struct.pack("q", 0))
        self.environment = {"LD_PRELOAD": str(library), "CLOCK_OFFSET_FILE": str(self._offset)}

    def set_off(self, seconds: int) -> None:
        """Sets the clocks to the true time and so many seconds; negative for the past."""
        with self._offset.open("r+b") as file:  # in place: it is mapped
            file.write(struct.pack("q", seconds))
