"""A namespace to watch the operator work in: what is there, what happens to its pods, patience for what should be."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest

from localcluster import Cluster

PATIENCE_SECONDS = 240.0
"""For anything to happen. On an idle machine hardly any wait takes a tenth of it."""


@dataclass
class ReplicaWatch:
    """What watches of a namespace's pods and ReplicaSets saw, event by event: no moment falls between two looks.

    How many replicas there may be is told by what the ReplicaSets ask for. They are acted on side by side, so a pod of
    the growing one may be there before the shrinking one has ended its own.
    """

    fewest_ready: int = 1000
    most_asked: int = 0
    _ready: dict[str, bool] = field(default_factory=dict)
    _asked: dict[str, int] = field(default_factory=dict)

    def take_pod(self, event: dict[str, Any]) -> None:
        pod = event["object"]
        name = pod["metadata"]["name"]
        failed = pod.get("status", {}).get("phase") == "Failed"  # refused by its kubelet, and replaced
        if event["type"] == "DELETED" or "deletionTimestamp" in pod["metadata"] or failed:
            self._ready.pop(name, None)
        else:
            conditions = pod.get("status", {}).get("conditions", [])
            self._ready[name] = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

    def take_replica_set(self, event: dict[str, Any]) -> None:
        replica_set = event["object"]
        gone = event["type"] == "DELETED"
        self._asked[replica_set["metadata"]["name"]] = 0 if gone else replica_set["spec"]["replicas"]

    def knows(self, pods: set[str]) -> bool:
        return pods <= self._ready.keys()

    def count(self) -> None:
        self.fewest_ready = min(self.fewest_ready, sum(self._ready.values()))
        self.most_asked = max(self.most_asked, sum(self._asked.values()))


@dataclass
class Place:
    """A namespace: what is in it, and patience for what should be."""

    cluster: Cluster
    namespace: str

    def apply(self, body: dict[str, Any]) -> None:
        self.kubectl("apply", "-f", "-", stdin=json.dumps(body))

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        return self.cluster.kubectl("--namespace", self.namespace, *arguments, stdin=stdin)

    def find(self, kind: str, name: str) -> dict[str, Any] | None:
        text = self.kubectl("get", kind, name, "--output", "json", "--ignore-not-found")
        return json.loads(text) if text else None

    def get(self, kind: str, name: str) -> dict[str, Any]:
        found = self.find(kind, name)
        assert found is not None, f"no {kind} {name} in {self.namespace}"
        return found

    def pods(self) -> list[dict[str, Any]]:
        """The pods that count: not those that end, nor those that their kubelet refused since the GPUs of another pod
        that ended were not free yet. Their ReplicaSet makes others."""
        items: list[dict[str, Any]] = json.loads(self.kubectl("get", "pods", "--output", "json"))["items"]
        alive = [pod for pod in items if "deletionTimestamp" not in pod["metadata"]]
        return [pod for pod in alive if pod["status"]["phase"] != "Failed"]

    def condition(self, type_: str, name: str = "chat") -> dict[str, Any]:
        """The condition of the ShiftDeployment; empty while it has none."""
        conditions = self.get("sd", name).get("status", {}).get("conditions", [])
        return next((c for c in conditions if c["type"] == type_), {})

    def decisions(self, kind: str, name: str = "chat") -> list[dict[str, Any]]:
        """The ShiftDeployment's decisions on one knob, the newest last."""
        found = self.get("sd", name).get("status", {}).get("decisions", [])
        return [decision for decision in found if decision["kind"] == kind]

    def has(self, type_: str, status: str, reason: str | None = None) -> Callable[[], bool]:
        def holds() -> bool:
            condition = self.condition(type_)
            return condition.get("status") == status and reason in (None, condition["reason"])

        return holds

    def notes(self, reason: str) -> list[str]:
        """The notes of Events about ShiftDeployments with this reason."""
        items = json.loads(self.kubectl("get", "events.events.k8s.io", "--output", "json"))["items"]
        return [e["note"] for e in items if e["reason"] == reason and e["regarding"]["kind"] == "ShiftDeployment"]

    @contextlib.contextmanager
    def watching(self) -> Iterator[ReplicaWatch]:
        """Counts the pods of the namespace, and those asked for, through everything that happens inside."""
        watch, known = ReplicaWatch(), {pod["metadata"]["name"] for pod in self.pods()}
        begun, one_at_a_time = threading.Event(), threading.Lock()

        def note(take: Callable[[dict[str, Any]], None], event: dict[str, Any]) -> None:
            with one_at_a_time:
                take(event)
                if begun.is_set() or watch.knows(known):  # before that the list is not through
                    begun.set()
                    watch.count()

        with (
            self._following("replicasets", partial(note, watch.take_replica_set)),
            self._following("pods", partial(note, watch.take_pod)),
        ):
            assert begun.wait(PATIENCE_SECONDS), "the watch showed no pods"
            yield watch

    @contextlib.contextmanager
    def _following(self, kind: str, take: Callable[[dict[str, Any]], None]) -> Iterator[None]:
        """Gives each event of a watch, those that list what is there first, to `take`, in a thread of its own."""

        def read() -> None:
            assert process.stdout is not None
            for line in process.stdout:  # one event each
                take(json.loads(line))

        command = ["get", kind, "--watch", "--output-watch-events", "--output", "json"]
        with subprocess.Popen(
            [str(self.cluster.binary("kubectl")), "--namespace", self.namespace, *command],
            env=self.cluster.environment(),
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            reader = threading.Thread(target=read)
            reader.start()
            try:
                yield
            finally:
                process.terminate()
                reader.join()

    def eventually(self, holds: Callable[[], Any]) -> None:
        """Waits until it holds. Fails with the ShiftDeployments as they are then."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not holds():
            if time.monotonic() > deadline:
                state = self.kubectl("get", "sd,deployments,pods", "--output", "yaml")
                pytest.fail(f"not within {PATIENCE_SECONDS:.0f} s; there is:\n{state}")
            time.sleep(0.1)
