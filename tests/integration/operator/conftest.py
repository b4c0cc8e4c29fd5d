"""The operator as a real process under its own ServiceAccount, and a namespace to watch it work in."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from localcluster import Cluster
from tests.integration.served import served

REPOSITORY = Path(__file__).parents[3]
SYSTEM = "shift-system"
USER = f"system:serviceaccount:{SYSTEM}:shift-operator"
IMAGE = "example.com/fake-engine:1"
PATIENCE_SECONDS = 240.0
"""For anything to happen. On an idle machine hardly any wait takes a tenth of it."""

Series = list[tuple[dict[str, str], float | str]]


@dataclass
class Operator:
    """A process of `python -m shift_operator.controller`, its log kept in a file."""

    process: subprocess.Popen[bytes]
    log: Path

    def end(self) -> int:
        """Ends it by SIGTERM; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=120)

    def ready(self) -> bool:
        """Whether /readyz says so."""
        started = next((line for line in self.lines() if line["message"] == "started"), None)
        if started is None:
            return False
        try:
            with urllib.request.urlopen(f"http://{started['host']}:{started['port']}/readyz", timeout=60):
                return True
        except urllib.error.HTTPError as error:
            error.close()
            return False

    def metric(self, series: str) -> float:
        """The value of a series of its /metrics, 0 while it has none."""
        started = next(line for line in self.lines() if line["message"] == "started")
        with urllib.request.urlopen(f"http://{started['host']}:{started['port']}/metrics", timeout=60) as answer:
            lines = answer.read().decode().splitlines()
        return next((float(line.split()[-1]) for line in lines if line.startswith(f"{series} ")), 0.0)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]


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


@dataclass
class Audit:
    """The API server's record of who wrote what."""

    path: Path
    user: str = USER
    begun_at: int = field(default=0)

    def writes(self) -> list[str]:
        """Writes of the operator since `mark`, as `verb resource namespace/name`."""
        with self.path.open() as file:
            file.seek(self.begun_at)
            entries = [json.loads(line) for line in file]
        return [
            f"{e['verb']} {ref['resource']}{'/' + ref['subresource'] if 'subresource' in ref else ''} "
            f"{ref.get('namespace', '')}/{ref.get('name', '')}"
            for e in entries
            if e["user"]["username"] == self.user
            and e["verb"] not in ("get", "list", "watch")
            and (ref := e["objectRef"])
        ]

    def mark(self) -> None:
        self.begun_at = self.path.stat().st_size


@pytest.fixture(scope="session")
def helm_chart(cluster: Cluster) -> Callable[..., str]:
    """The chart's ServiceAccount and permissions as a release of this name makes them."""

    return lambda release, *values: permissions(cluster, release, *values)


def permissions(cluster: Cluster, release: str, *values: str) -> str:
    """The chart's ServiceAccount and permissions, of a release of this name."""
    chart = (release, str(REPOSITORY / "charts/shift-operator"), "--namespace", SYSTEM)
    return cluster.helm("template", *chart, "--show-only", "templates/rbac.yaml", *values)


@pytest.fixture(scope="session")
def installed(cluster: Cluster, images: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The CRD, the chart's account and permissions, the fake engine's image. Gives the operator's kubeconfig."""
    return install(cluster, images, tmp_path_factory.mktemp("operator"))


def install(cluster: Cluster, images: Any, directory: Path) -> Path:
    """What `installed` is, for any cluster."""
    cluster.kubectl("apply", "--server-side", "-f", str(REPOSITORY / "crds"))
    served(cluster, "shiftdeployments")
    cluster.kubectl("create", "namespace", SYSTEM)
    cluster.kubectl("apply", "-f", "-", stdin=permissions(cluster, "shift-operator"))
    images.add(IMAGE, sys.executable, str(Path(__file__).with_name("fake_engine.py")))
    return kubeconfig_of(cluster, "shift-operator", directory)


def kubeconfig_of(cluster: Cluster, account: str, directory: Path) -> Path:
    """A kubeconfig with this ServiceAccount's token in a file beside it."""
    token = cluster.kubectl("--namespace", SYSTEM, "create", "token", account, "--duration=2h")
    (directory / "token").write_text(token)
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    config["users"] = [{"name": user["name"], "user": {"tokenFile": "token"}} for user in config["users"]]
    for entry in config["clusters"]:
        if "certificate-authority" in entry["cluster"]:
            authority = cluster.kubeconfig.parent / entry["cluster"]["certificate-authority"]
            entry["cluster"]["certificate-authority"] = str(authority)
    (directory / "kubeconfig").write_text(yaml.safe_dump(config))
    return directory / "kubeconfig"


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Operator]]:
    """Starts an operator with these flags; all are ended after the tests."""
    started: list[Operator] = []

    def start(kubeconfig: Path, *flags: str) -> Operator:
        started.append(begin(kubeconfig, tmp_path_factory.mktemp("log") / "operator.log", *flags))
        return started[-1]

    yield start
    for operator in started:
        if operator.process.poll() is None:
            operator.process.kill()
            operator.process.wait()


def begin(kubeconfig: Path, log: Path, *flags: str) -> Operator:
    """A new process of the operator."""
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "shift_operator.controller", "--port", "0", *flags],
            env={**os.environ, "KUBECONFIG": str(kubeconfig)},
            stderr=stderr,
        )
    return Operator(process, log)


@dataclass
class CannedPrometheus:
    """A process that answers each query with the series it was told, and with 503 while it was told none."""

    url: str
    file: Path

    def tell(self, series: Series | None) -> None:
        """Series as (labels, value); the value `now` is the time of the query."""
        if series is None:
            self.file.unlink(missing_ok=True)
        else:
            self._write(series)

    def tell_in_turn(self, *turns: Series) -> None:
        """Series of which each look gets the next."""
        self._write(turns)

    def _write(self, content: Any) -> None:
        self.file.with_suffix(".new").write_text(json.dumps(content))
        self.file.with_suffix(".new").rename(self.file)


@pytest.fixture(scope="session")
def session_prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CannedPrometheus]:
    file = tmp_path_factory.mktemp("prometheus") / "series.json"
    script = Path(__file__).with_name("canned_prometheus.py")
    with subprocess.Popen([sys.executable, script, file], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield CannedPrometheus(f"http://127.0.0.1:{process.stdout.readline().strip()}", file)
        process.terminate()


@pytest.fixture
def prometheus(session_prometheus: CannedPrometheus) -> Iterator[CannedPrometheus]:
    """The Prometheus of the session's operator. It answers 503 but to a test that tells it series."""
    yield session_prometheus
    session_prometheus.tell(None)


@pytest.fixture(scope="session")
def operator(start: Callable[..., Operator], installed: Path, session_prometheus: CannedPrometheus) -> Operator:
    """The operator that serves all tests. It resyncs every second."""
    flags = ("--resync-seconds", "1", "--decision-interval-seconds", "1")
    return start(installed, *flags, "--prometheus-url", session_prometheus.url)


@pytest.fixture
def place(cluster: Cluster, namespace: str, operator: Operator) -> Iterator[Place]:
    """A new namespace that the operator watches."""
    with place_in(cluster, namespace) as place:
        yield place


@contextlib.contextmanager
def place_in(cluster: Cluster, namespace: str) -> Iterator[Place]:
    place = Place(cluster, namespace)
    yield place
    # Before the namespace: its pods give their GPUs back to the next test.
    place.kubectl("delete", "sd", "--all", "--wait=false")
    place.kubectl("delete", "pods", "--all", "--force", "--grace-period=0")


@pytest.fixture
def audit(cluster: Cluster) -> Audit:
    return Audit(cluster.audit_log)


@pytest.fixture
def a_deployment() -> Callable[..., dict[str, Any]]:
    """A ShiftDeployment `chat` of one replica with 2 GPUs; fields of its spec can be replaced."""
    return shift_deployment


def shift_deployment(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "shiftparallel.io/v1alpha1",
        "kind": "ShiftDeployment",
        "metadata": {"name": "chat"},
        "spec": {
            "model": {"uri": "file:///models/tiny", "name": "tiny"},
            "engine": {"image": IMAGE},
            "parallelism": {"gpusPerReplica": 2, "degree": {"sequence": 2, "tensor": 1}},
            "shift": {"mode": "Fixed", "thresholdTokens": 256},
            "drain": {"timeoutSeconds": 1},
        }
        | spec,
    }


@pytest.fixture
def a_policy(place: Place) -> Iterator[Callable[..., str]]:
    """`a_policy(**spec)` applies a policy for the test's namespace and gives its name; it is gone after the test."""
    name = f"of-{place.namespace}"

    def apply(**spec: Any) -> str:
        body = {
            "apiVersion": "shiftparallel.io/v1alpha1",
            "kind": "ClusterShiftPolicy",
            "metadata": {"name": name},
            "spec": {"selector": {"namespaces": [place.namespace]}, "intervalSeconds": 1} | spec,
        }
        place.cluster.kubectl("apply", "-f", "-", stdin=json.dumps(body))
        return name

    yield apply
    place.cluster.kubectl("delete", "clustershiftpolicy", name, "--ignore-not-found")
