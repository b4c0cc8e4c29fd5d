"""What the first of several API servers tells the others: one file, replaced whole.

With `--api-server-count` above 1 vLLM runs API processes that share a port. The first one alone watches the schedule
file and polls the ranks; a second watcher would hand each schedule over twice, and counters of two polls, scraped in
turn, would seem to go back, which Prometheus takes for a restart. Every process answers GET /shift and /metrics from
the file, so it does not matter which one is asked.
"""

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"  # environment: vLLM makes it before it starts several API processes
FILE = "shift.json"
POST_SECONDS = 0.5


class Told(Protocol):
    """What the first process knows, as the endpoint's state has it."""

    def document(self) -> dict[str, Any]: ...


class Board:
    """The file, in a directory of this engine's start alone."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE

    @classmethod
    def of_this_process(cls) -> "Board | None":
        """The board of an engine with several API servers, None where there is one."""
        directory = os.environ.get(DIRECTORY)
        return cls(Path(directory)) if directory else None

    @property
    def is_written(self) -> bool:
        """Whether the first process has come so far."""
        return self._path.exists()

    async def until_written(self) -> None:
        """Wait for the first process; vLLM ends all of them when one dies."""
        while not self.is_written:  # noqa: ASYNC110  another process writes it
            await asyncio.sleep(POST_SECONDS)

    def document(self) -> dict[str, Any]:
        """The answer of GET /shift."""
        return dict(self._read()["shift"])

    def collect(self) -> Iterator[Metric]:
        """Our families of metrics, for a prometheus_client registry."""
        if self.is_written:
            yield from text_string_to_metric_families(self._read()["metrics"])

    def post(self, document: dict[str, Any], metrics: Collector) -> None:
        """Replace the content."""
        registry = CollectorRegistry()
        registry.register(metrics)
        content = {"shift": document, "metrics": generate_latest(registry).decode()}
        new = self._path.with_suffix(".new")
        new.write_text(json.dumps(content))
        new.replace(self._path)

    async def post_for_ever(self, told: Told, metrics: Collector) -> None:
        """Post what the first process knows, twice a second."""
        while True:
            self.post(told.document(), metrics)
            await asyncio.sleep(POST_SECONDS)

    def _read(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self._path.read_text())
        return content
