"""`cpu.env`, as the tests and the benchmarks hand it to the engines that they start. Not part of the package."""

import os
from pathlib import Path

FILE = Path(__file__).with_name("cpu.env")


def cpu_environment() -> dict[str, str]:
    """This process's environment with what the file sets: KEY=VALUE lines, `#` comments."""
    lines = FILE.read_text().splitlines()
    return dict(os.environ) | dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
