"""Two operators with one Lease: when the leader dies, hangs or ends, the other goes on, and never do both write.

Each process has a token of its own, whose id the API server's audit log keeps: that tells whose write it was. They have
an instance name, so that the operator of the other tests leaves their ShiftDeployments alone.
"""

from __future__ import annotations

import base64
import itertools
import json
import signal
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.integration.operator.conftest import SYSTEM, Operator, kubeconfig_of
from tests.integration.operator.place import PATIENCE_SECONDS, Place

RELEASE = "pair"
LEASE = f"{RELEASE}-shift-operator"


@dataclass
class Candidate:
    """An operator, and the id of its token."""

    operator: Operator
    token_id: str

    def get(self, path: str) -> str:
        """What it serves at /healthz, /readyz or /metrics, whatever the status; empty while it serves nothing yet."""
        started = next((line for line in self.operator.lines() if line["message"] == "started"), None)
        if started is None:
            return ""
        try:
            with urllib.request.urlopen(f"http://{started['host']}:{started['port']}{path}", timeout=60) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as error:
            return error.read().decode()

    def leads(self) -> bool:
        return self.get("/readyz") == "ok: leading\n"

    def stands_by(self) -> bool:
        return self.get("/readyz").startswith("ok: standing by, ")


@dataclass
class Pair:
    """Where the candidates of one test work, and what they wrote there."""

    place: Place
    audit_log: Path
    start: Callable[..., Operator]
    directory: Path
    flags: tuple[str, ...]
    candidates: list[Candidate] = field(default_factory=list)

    def join(self) -> Candidate:
        """Starts one more candidate."""
        directory = self.directory / str(len(self.candidates))
        directory.mkdir()
        kubeconfig = kubeconfig_of(self.place.cluster, LEASE, directory)
        candidate = Candidate(self.start(kubeconfig, *self.flags), token_id(directory / "token"))
        self.candidates.append(candidate)
        return candidate

    def leader_and_standby(self) -> tuple[Candidate, Candidate]:
        first = self.join()
        self.place.eventually(first.leads)
        second = self.join()
        self.place.eventually(second.stands_by)
        return first, second

    def lease(self) -> dict[str, Any]:
        text = self.place.cluster.kubectl("--namespace", SYSTEM, "get", "lease", LEASE, "--output", "json")
        spec: dict[str, Any] = json.loads(text)["spec"]
        return spec

    def writers(self, since: str = "") -> list[int]:
        """Which candidate wrote in the test's namespace, run by run, in the order in which the API server was asked.

        `since` is a time in ISO format.
        """
        numbers = {candidate.token_id: number for number, candidate in enumerate(self.candidates)}
        entries = [json.loads(line) for line in self.audit_log.read_text().splitlines()]
        found = []
        for entry in sorted(entries, key=lambda entry: entry["requestReceivedTimestamp"]):
            (token_id,) = entry["user"].get("extra", {}).get("authentication.kubernetes.io/credential-id", [""])
            if entry["requestReceivedTimestamp"] < since or entry["objectRef"].get("namespace") != self.place.namespace:
                continue
            if token_id in numbers:
                found.append(numbers[token_id])
        return [number for number, _ in itertools.groupby(found)]


def token_id(file: Path) -> str:
    """The id of the token in this file, as the API server's audit log keeps it."""
    payload = file.read_text().split(".")[1]
    return "JTI=" + json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["jti"]


@pytest.fixture
def pair(
    cluster: Any, namespace: str, installed: Path, helm_chart: Any, audit: Any, start: Any, tmp_path: Path
) -> Iterator[Pair]:
    cluster.kubectl("apply", "-f", "-", stdin=helm_chart(RELEASE))
    flags = ("--instance", RELEASE, "--lease", f"{SYSTEM}/{LEASE}", "--resync-seconds", "1")
    place = Place(cluster, namespace)
    pair = Pair(place, audit.path, start, tmp_path, (*flags, "--watch-namespaces", namespace))
    yield pair
    for candidate in pair.candidates:
        candidate.operator.process.kill()
        candidate.operator.process.wait()
    cluster.kubectl("--namespace", SYSTEM, "delete", "lease", LEASE, "--ignore-not-found")
    place.kubectl("delete", "sd", "--all", "--wait=false")
    place.kubectl("delete", "pods", "--all", "--force", "--grace-period=0")


@pytest.fixture
def ours(a_deployment: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    def build(**spec: Any) -> dict[str, Any]:
        body = a_deployment(**spec)
        body["metadata"]["labels"] = {"shiftparallel.io/operator": RELEASE}
        return body

    return build


def converged(place: Place) -> bool:
    """Whether the status is of the newest spec, and says that every pod runs it."""
    deployment = place.get("sd", "chat")
    status = deployment.get("status", {})
    conditions = {c["type"]: (c["status"], c["reason"]) for c in status.get("conditions", [])}
    return (
        status.get("observedGeneration") == deployment["metadata"]["generation"]
        and conditions.get("Progressing") == ("True", "RolloutComplete")
        and (deployment["spec"]["replicas"] == 0 or conditions["ConfigurationApplied"][0] == "True")
    )


def threshold(place: Place) -> int:
    schedule = json.loads(place.get("configmap", "chat-schedule")["data"]["schedule.json"])
    return int(schedule["ranges"][0]["upToTokens"])


def test_killed_in_mid_rollout_it_is_followed_and_the_rollout_completes(pair: Pair, ours: Any) -> None:
    leader, standby = pair.leader_and_standby()
    assert "shift_operator_leader 1.0" in leader.get("/metrics")
    assert "shift_operator_leader 0.0" in standby.get("/metrics")
    assert standby.get("/healthz") == "ok\n"
    place = pair.place
    place.apply(ours(replicas=2))
    place.eventually(lambda: converged(place))
    before = {pod["metadata"]["uid"] for pod in place.pods()}

    place.apply(ours(replicas=2, model={"uri": "file:///models/tiny", "name": "renamed"}))
    place.eventually(lambda: {pod["metadata"]["uid"] for pod in place.pods()} - before)
    leader.operator.process.kill()
    place.apply(
        ours(
            replicas=2,
            model={"uri": "file:///models/tiny", "name": "renamed"},
            shift={"mode": "Fixed", "thresholdTokens": 333},
        )
    )
    place.eventually(lambda: converged(place) and threshold(place) == 333)
    assert not before & {pod["metadata"]["uid"] for pod in place.pods()}
    assert standby.leads()
    assert pair.writers() == [0, 1]
    assert pair.lease()["leaseTransitions"] == 1


def test_a_leader_that_hangs_is_followed_and_ends_without_a_write_when_it_wakes(pair: Pair, ours: Any) -> None:
    leader, standby = pair.leader_and_standby()
    place = pair.place
    place.apply(ours(replicas=0))
    place.eventually(lambda: converged(place))

    leader.operator.process.send_signal(signal.SIGSTOP)
    place.apply(ours(replicas=0, shift={"mode": "Fixed", "thresholdTokens": 333}))
    place.eventually(lambda: standby.leads() and threshold(place) == 333)
    place.kubectl("delete", "service", "chat")  # work for both, were there two
    leader.operator.process.send_signal(signal.SIGCONT)
    assert leader.operator.process.wait(timeout=PATIENCE_SECONDS) == 1
    last = leader.operator.lines()[-1]
    assert last["message"] == "ended by an error"
    assert last["error"].startswith(f"update leases.coordination.k8s.io {SYSTEM}/{LEASE}: ")
    assert "exc_info" not in last
    place.eventually(lambda: place.find("service", "chat"))
    assert pair.writers() == [0, 1]


def test_told_to_end_it_gives_the_lease_back(pair: Pair, ours: Any) -> None:
    leader, standby = pair.leader_and_standby()
    place = pair.place
    place.apply(ours(replicas=0))
    place.eventually(lambda: converged(place))
    assert leader.operator.end() == 0
    place.eventually(standby.leads)
    waited = [line["message"] for line in standby.operator.lines()]
    assert "lease not released" not in [line["message"] for line in leader.operator.lines()]
    assert waited.index("standing by") < waited.index("leading")
    assert pair.lease()["leaseTransitions"] == 1

    assert standby.operator.end() == 0
    assert pair.lease()["holderIdentity"] == ""


def test_without_a_right_to_the_lease_it_ends_and_names_the_missing_one(pair: Pair) -> None:
    pair.flags = (*pair.flags, "--lease", f"{SYSTEM}/another")
    operator = pair.join().operator
    assert operator.process.wait(timeout=PATIENCE_SECONDS) == 1
    wanted = f"Give the operator's Role in {SYSTEM} the verb 'get' on 'leases.coordination.k8s.io'"
    assert operator.lines()[-1]["error"].endswith(wanted)


def test_a_label_gives_a_deployment_to_the_operator_that_it_names(
    pair: Pair, place: Any, ours: Any, a_deployment: Callable[..., dict[str, Any]]
) -> None:
    """`place` is where the operator without a name works, cluster-wide; the pair's is bound to the namespace."""
    named = pair.join()
    place.eventually(named.leads)
    place.apply(a_deployment(replicas=0))
    place.eventually(lambda: converged(place))
    assert pair.writers() == []

    place.apply(ours(replicas=0, shift={"mode": "Fixed", "thresholdTokens": 333}))
    place.eventually(lambda: converged(place) and threshold(place) == 333)
    assert pair.writers() == [0]

    moved_at = datetime.now(UTC).isoformat()
    place.apply(a_deployment(replicas=0, shift={"mode": "Fixed", "thresholdTokens": 444}))
    place.eventually(lambda: converged(place) and threshold(place) == 444)
    assert pair.writers(since=moved_at) == []
    assert named.operator.end() == 0
