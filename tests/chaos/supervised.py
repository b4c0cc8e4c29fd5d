"""A place for an operator process: when its process ends, for whatever reason, another life begins."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

RESTART_SECONDS = 1.0


@dataclass
class Supervised:
    """`lives` gives each life's kubeconfig; its folder's name is the life's and its log's."""

    lives: Iterator[Path]
    directory: Path
    flags: Sequence[str]
    environment: Mapping[str, str]
    process: subprocess.Popen[bytes] | None = None
    begun: int = 0
    _log: Path | None = None
    _over: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.directory.mkdir()
        self._thread = threading.Thread(target=self._supervise)
        self._thread.start()

    def _supervise(self) -> None:
        while not self._over.is_set():
            kubeconfig = next(self.lives)
            self._log = self.directory / f"{kubeconfig.parent.name}.log"
            with self._log.open("wb") as log:
                self.process = subprocess.Popen(
                    [sys.executable, "-m", "shift_operator.controller", "--port=0", *self.flags],
                    env={**os.environ, **self.environment, "KUBECONFIG": str(kubeconfig)},
                    stderr=log,
                )
            self.begun += 1
            while self.process.poll() is None:
                if self._over.wait(0.1):
                    self.process.kill()
                    self.process.wait()
                    return
            self._over.wait(RESTART_SECONDS)

    def lines(self) -> list[dict[str, Any]]:
        """What the present life has logged."""
        if self._log is None:
            return []
        whole = self._log.read_text().rpartition("\n")[0]  # a line may be half-written
        return [json.loads(line) for line in whole.splitlines()]

    @property
    def identity(self) -> str:
        """The identity under which the present life stands by or leads; empty before it does."""
        return next((str(line["identity"]) for line in reversed(self.lines()) if "identity" in line), "")

    def end(self) -> None:
        self._over.set()
        self._thread.join(20)
