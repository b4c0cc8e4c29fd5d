"""Images as a file: what a registry's image would bring, given as a local command.

    images:
      "example.com/server:1.0":
        entrypoint: ["${PYTHON}", -m, server]   # ${VAR}: the kubelet's environment; paths lie beside this file
        cmd: [--port, "8000"]
        env: {LANG: C.UTF-8}
        envFile: ./server.env                   # KEY=VALUE lines, `#` comments; `env` wins
        workingDir: /app
        files: {/app: ./app, /models: "${MODELS}"}   # the image's own tree: container path -> real directory or file

The file is read again when it changed, so an image can be added while the cluster runs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

_VARIABLE = re.compile(r"\$\{(\w+)\}")
_FIELDS = {"entrypoint", "cmd", "env", "envFile", "workingDir", "files"}


class ImageError(Exception):
    """This image cannot be had; the text names it, says why and what to do."""


@dataclass(frozen=True)
class Image:
    """The parts of an OCI image configuration that a process needs."""

    entrypoint: list[str] = field(default_factory=list)
    cmd: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    working_dir: str = ""
    files: dict[str, str] = field(default_factory=dict)

    def argv(self, command: list[str] | None, args: list[str] | None) -> list[str]:
        """Kubernetes' table: `command` replaces the entrypoint and drops the image's cmd; `args` replaces cmd."""
        if command:
            return [*command, *(args or [])]
        return [*self.entrypoint, *(args or self.cmd)]


class Images:
    """The images of one file. An empty `path` knows none."""

    def __init__(self, path: Path | None, environment: Mapping[str, str] = os.environ) -> None:
        self.path, self.environment = path, environment
        self._read_at: float | None = None
        self._entries: dict[str, Any] = {}

    def find(self, name: str) -> Image:
        """The image of that name, `:latest` where it has no tag. Raises ImageError."""
        self._read()
        last = name.rpartition("/")[2]
        full = name if ":" in last or "@" in last else f"{name}:latest"
        entry = self._entries.get(name, self._entries.get(full))
        if entry is None:
            raise ImageError(
                f'image "{name}" is not in {self.path}; known are: {", ".join(sorted(self._entries)) or "none"}'
            )
        return self._image(name, entry)

    def _read(self) -> None:
        if self.path is None:
            return
        try:
            changed_at = self.path.stat().st_mtime
            if changed_at == self._read_at:
                return
            content = yaml.safe_load(self.path.read_text()) or {}
        except (OSError, yaml.YAMLError) as error:
            raise ImageError(f"images file {self.path} cannot be read: {error}") from error
        entries = content.get("images") if isinstance(content, dict) else None
        if not isinstance(entries, dict):
            raise ImageError(f"images file {self.path}: the key `images` must map image names to images")
        self._entries, self._read_at = entries, changed_at

    def _image(self, name: str, entry: Any) -> Image:
        if not isinstance(entry, dict) or set(entry) - _FIELDS:
            raise ImageError(
                f'image "{name}" in {self.path}: the fields are {", ".join(sorted(_FIELDS))}; got {entry!r}'
            )
        entrypoint = [self._filled(name, part) for part in entry.get("entrypoint", [])]
        if entrypoint and "/" in entrypoint[0]:
            entrypoint[0] = self._beside(entrypoint[0])
        files = {path: self._beside(self._filled(name, real)) for path, real in entry.get("files", {}).items()}
        for path, real in files.items():
            if not os.path.exists(real):
                raise ImageError(
                    f'image "{name}": files: {path}: {real} does not exist; build it or correct {self.path}'
                )
        return Image(
            entrypoint=entrypoint,
            cmd=[self._filled(name, part) for part in entry.get("cmd", [])],
            env=self._env_file(name, entry.get("envFile"))
            | {key: self._filled(name, value) for key, value in entry.get("env", {}).items()},
            working_dir=self._filled(name, entry.get("workingDir", "")),
            files=files,
        )

    def _env_file(self, name: str, file: str | None) -> dict[str, str]:
        if not file:
            return {}
        path = Path(self._beside(self._filled(name, file)))
        try:
            lines = [line.strip() for line in path.read_text().splitlines()]
        except OSError as error:
            raise ImageError(f'image "{name}": envFile {path} cannot be read: {error}') from error
        entries = [line.partition("=") for line in lines if line and not line.startswith("#")]
        if wrong := [key for key, equals, _ in entries if not (key and equals)]:
            raise ImageError(f'image "{name}": envFile {path}: {wrong[0]!r}: write KEY=VALUE lines')
        return {key: self._filled(name, value) for key, _, value in entries}

    def _filled(self, name: str, text: object) -> str:
        def value(match: re.Match[str]) -> str:
            if match[1] not in self.environment:
                raise ImageError(
                    f'image "{name}": ${{{match[1]}}} is not in the kubelet\'s environment; set it before the start'
                )
            return self.environment[match[1]]

        return _VARIABLE.sub(value, str(text))

    def _beside(self, path: str) -> str:
        base = self.path.parent if self.path else Path()
        return os.path.normpath(base.absolute() / path)
