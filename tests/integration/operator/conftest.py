"""The operator as a real process under its own ServiceAccount, and a namespace to watch it work in."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from localcluster import Cluster
from tests.integration.operator.place import Place
from tests.integration.served import served

REPOSITORY = Path(__file__).parents[3]
SYSTEM = "shift-system"
USER = f"system:serviceaccount:{SYSTEM}:shift-operator"
IMAGE = "example.com/fake-engine:1"

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
