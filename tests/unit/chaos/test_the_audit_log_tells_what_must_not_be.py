"""The chaos tests' reading of the audit log: it finds a deletion too many and a writer that comes back."""

from __future__ import annotations

from typing import Any

from tests.chaos.audit import deleted_beyond_the_budget, pods_deleted, writers

NAMESPACE = "chaos"


def an_entry(verb: str, resource: str, name: str, version: int, **body: Any) -> dict[str, Any]:
    kind = {"pods": "Pod", "deployments": "Deployment"}[resource]
    metadata = {"name": name, "resourceVersion": str(version), "labels": {"shiftparallel.io/deployment": "one"}}
    return {
        "verb": verb,
        "user": {},
        "objectRef": {"resource": resource, "namespace": NAMESPACE, "name": name},
        "responseStatus": {"code": 200},
        "responseObject": {"kind": kind, **body, "metadata": metadata | body.get("metadata", {})},
    }


def bounds(version: int, replicas: int, may_miss: int) -> dict[str, Any]:
    strategy = {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": may_miss}}
    return an_entry("patch", "deployments", "one", version, spec={"replicas": replicas, "strategy": strategy})


def a_pod(name: str, version: int, *, ready: bool) -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": str(ready)}]
    return an_entry("patch", "pods", name, version, status={"conditions": conditions})


def a_deletion(name: str, version: int) -> dict[str, Any]:
    metadata = {"deletionTimestamp": "2026-11-24T11:00:00Z"}
    return an_entry("delete", "pods", name, version, metadata=metadata, status={})


def test_a_ready_pod_may_go_once_its_successor_is_ready() -> None:
    log = [
        bounds(1, 2, 0), a_pod("one-a", 2, ready=True), a_pod("one-b", 3, ready=True), a_pod("one-c", 4, ready=False),
        a_pod("one-c", 5, ready=True), a_deletion("one-a", 6),
    ]  # fmt: skip
    assert deleted_beyond_the_budget(log, NAMESPACE) == []
    assert pods_deleted(log, NAMESPACE) == 1


def test_a_deletion_before_that_is_found_in_whatever_order_the_log_has_it() -> None:
    log = [
        bounds(1, 2, 0), a_pod("one-a", 2, ready=True), a_pod("one-b", 3, ready=True), a_pod("one-c", 5, ready=True),
        a_deletion("one-a", 4),
    ]  # fmt: skip
    expected = ["one-a was deleted: 1 ready pods were left of at least 2"]
    assert deleted_beyond_the_budget(log, NAMESPACE) == expected
    assert deleted_beyond_the_budget(log[::-1], NAMESPACE) == expected


def test_what_may_be_missing_may_be_deleted_and_what_was_not_ready_is_no_loss() -> None:
    log = [
        bounds(1, 2, 1), a_pod("one-a", 2, ready=True), a_pod("one-b", 3, ready=True), a_deletion("one-a", 4),
        a_pod("one-c", 5, ready=False), a_deletion("one-c", 6),
    ]  # fmt: skip
    assert deleted_beyond_the_budget(log, NAMESPACE) == []


def test_writers_are_told_run_by_run() -> None:
    def written(by: str, name: str = "one-schedule") -> dict[str, Any]:
        user = {"extra": {"authentication.kubernetes.io/credential-id": [by]}}
        return {"user": user, "objectRef": {"namespace": NAMESPACE, "name": name}}

    log = [
        written("a"),
        written("a"),
        written("b", "other.1f"),
        written("b"),
        {"user": {}, "objectRef": {}},
        written("a"),
    ]
    assert writers(log, {"a": 0, "b": 1}, NAMESPACE, ["one"]) == [0, 1, 0]
    assert writers(log, {"a": 0, "b": 1}, NAMESPACE, ["other"]) == [1]
