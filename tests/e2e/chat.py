"""A cluster on which the chart's operator serves `chat`, with the real engine and a tiny model."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from demo.environment import here
from localcluster import Cluster, NodeSpec

CHART = Path(__file__).parents[2] / "charts" / "shift-operator"
OPERATOR, ENGINE = "ghcr.io/shiftparallel/shift-operator:0.1.0", "example.com/shift-engine-cpu:1"
# For anything to happen. Four engines at once are up after one to four minutes; one beside an engine under load has
# taken more than ten, on two cores of which it got a tenth.
PATIENCE_SECONDS = 1500.0


@contextmanager
def serving(
    deployment: dict[str, Any],
    directory: Path,
    *,
    gpus: int,
    policy: dict[str, Any] | None = None,
    engine: Sequence[str] = ("shift-engine",),
) -> Iterator[Cluster]:
    """A cluster of one node. With a policy also with Prometheus, which the operator then asks. `engine` is what the
    engine's image runs, a program of its environment and what comes before the arguments."""
    described = directory / "images.yaml"
    described.write_text(yaml.safe_dump({"images": images(directory, engine)}))
    nodes = [NodeSpec("node-0", gpus)]
    with Cluster(directory / "cluster", nodes=nodes, images=described, prometheus=policy is not None) as cluster:
        url = [f"--set=prometheus.url={cluster.prometheus_url}"] if policy else []
        cluster.helm("install", "shift-operator", str(CHART), "--set=replicas=1", *url)
        for document in filter(None, (policy, deployment)):
            cluster.kubectl("apply", "--filename=-", stdin=json.dumps(document))
        yield cluster


def images(directory: Path, engine: Sequence[str]) -> dict[str, Any]:
    """What the cluster's images run: this operator, and the real engine with a tiny model under /models."""
    environment = here(directory)
    if not (environment.model / "config.json").exists():
        script = environment.checkout / "examples" / "tiny_model.py"
        subprocess.run([environment.engine_python, script, environment.model], check=True, timeout=PATIENCE_SECONDS)
    program, *arguments = engine
    return {
        OPERATOR: {"entrypoint": [sys.executable, "-m", "shift_operator.controller"]},
        ENGINE: {
            "entrypoint": [str(environment.engine_python.with_name(program)), *arguments],
            "envFile": str(environment.checkout / "worker_image" / "cpu.env"),
            "files": {"/models": str(environment.model.parent)},
        },
    }


async def eventually(holds: Callable[[], Any], cluster: Cluster) -> None:
    """Waits in a thread: the clients must go on."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not await asyncio.to_thread(holds):
        if time.monotonic() > deadline:
            pytest.fail(await asyncio.to_thread(cluster.kubectl, "get", "sd,pods", "--output=yaml"))
        await asyncio.sleep(0.5)


class Chat:
    """The ShiftDeployment, read anew at each question."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    @property
    def url(self) -> str:
        """Of its Service."""
        service = json.loads(self._cluster.kubectl("get", "service", "chat", "--output=json"))
        return f"http://{service['spec']['clusterIP']}:8000"

    @property
    def status(self) -> dict[str, Any]:
        found = json.loads(self._cluster.kubectl("get", "sd", "chat", "--output=json"))
        return dict(found.get("status", {}))

    def serves(self, replicas: int) -> bool:
        return bool(self.status.get("ready") == f"{replicas}/{replicas}")

    @property
    def threshold(self) -> int:
        return int(self.status["shift"]["desired"]["thresholdTokens"])

    def condition(self, type_: str) -> tuple[str, str]:
        conditions = {c["type"]: c for c in self.status.get("conditions", [])}
        return conditions[type_]["status"], conditions[type_]["reason"]

    def decisions(self, kind: str) -> list[dict[str, Any]]:
        return [decision for decision in self.status.get("decisions", []) if decision["kind"] == kind]

    def runs(self, degree: str) -> bool:
        """Whether all ranks confirmed a schedule with the degree."""
        status = self.status
        conditions = {c["type"]: c["status"] for c in status.get("conditions", [])}
        return status.get("degree") == degree and conditions.get("ConfigurationApplied") == "True"

    def last_reason(self, kind: str) -> str | None:
        """That of the last decision on a knob; None before the first."""
        decisions = self.decisions(kind)
        return decisions[-1]["reason"] if decisions else None

    def moved(self, kind: str) -> bool:
        """Whether the last move of a knob has come through everywhere."""
        return any(decision["outcome"] == "Applied" for decision in self.decisions(kind))

    def holds_as_best(self) -> bool:
        """Whether this machine's step times give no reason to move the threshold."""
        return self.last_reason("Threshold") in ("BestAlready", "GainTooSmall")
