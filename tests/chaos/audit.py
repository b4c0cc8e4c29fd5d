"""What the API server's audit log tells afterwards: who wrote when, and whether a pod was deleted that had to stay.

Of pods and Deployments the log has each state as it was stored. Their resourceVersions are one count of all changes, so
the states can be put into the order in which they became true, whatever request was answered first.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shift_operator.api import labels

Entry = dict[str, Any]


def entries(log: Path) -> list[Entry]:
    """All that was written, in the order in which the API server took the requests in."""
    lines = log.read_text().splitlines()
    return sorted(map(json.loads, lines), key=lambda entry: str(entry["requestReceivedTimestamp"]))


def deployment_of(name: str) -> str:
    """Which ShiftDeployment an object of ours is of, by its name; ours have names without a dash or a dot."""
    return name.replace(".", "-").partition("-")[0]


def writers(log: Iterable[Entry], token_ids: Mapping[str, int], namespace: str, names: Iterable[str]) -> list[int]:
    """Which life of an operator wrote to these ShiftDeployments and what is theirs, run by run."""
    wanted = set(names)
    found = []
    for entry in log:
        (ident,) = entry["user"].get("extra", {}).get("authentication.kubernetes.io/credential-id", [""])
        about = entry["objectRef"]
        if ident in token_ids and about.get("namespace") == namespace and deployment_of(about["name"]) in wanted:
            found.append(token_ids[ident])
    return [life for life, _ in itertools.groupby(found)]


@dataclass
class _Replicas:
    """A child Deployment's bounds and its pods, as they stand at a moment."""

    may_go_below: int = 0
    ready: dict[str, bool] = field(default_factory=dict)


def deleted_beyond_the_budget(log: Iterable[Entry], namespace: str) -> list[str]:
    """Ready pods whose deletion left fewer ready ones than replicas - maxUnavailable of their Deployment then."""
    by_deployment: dict[str, _Replicas] = {}
    found = []
    for verb, kind, body in _states(log, namespace):
        metadata = body["metadata"]
        replicas = by_deployment.setdefault(deployment_of(metadata["name"]), _Replicas())
        if kind == "deployments":
            replicas.may_go_below = _least(body["spec"])
            continue
        name = metadata["name"]
        was_ready = replicas.ready.pop(name, False)
        if "deletionTimestamp" not in metadata and verb != "delete":
            replicas.ready[name] = _is_ready(body)
        elif was_ready:
            left = sum(replicas.ready.values())
            if left < replicas.may_go_below:
                found.append(f"{name} was deleted: {left} ready pods were left of at least {replicas.may_go_below}")
    return found


def pods_deleted(log: Iterable[Entry], namespace: str) -> int:
    """How many pods were told to end."""
    names = {b["metadata"]["name"] for verb, kind, b in _states(log, namespace) if kind == "pods" and verb == "delete"}
    return len(names)


def _states(log: Iterable[Entry], namespace: str) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """(verb, resource, object) of each state of a pod or Deployment that was stored, in the order of the changes."""
    stored = [
        (entry["verb"], entry["objectRef"]["resource"], entry["responseObject"])
        for entry in log
        if entry["objectRef"].get("namespace") == namespace
        and entry["objectRef"]["resource"] in ("pods", "deployments")
        and entry["responseStatus"]["code"] < 300
        and entry.get("responseObject", {}).get("kind") in ("Pod", "Deployment")
    ]
    yield from sorted(stored, key=lambda state: int(state[2]["metadata"]["resourceVersion"]))


def _least(spec: Mapping[str, Any]) -> int:
    bounds = spec["strategy"].get("rollingUpdate") or {"maxUnavailable": spec["replicas"]}
    may_miss = bounds["maxUnavailable"]
    assert isinstance(may_miss, int), "the operator writes numbers, no percentages"
    return int(spec["replicas"]) - may_miss


def _is_ready(pod: Mapping[str, Any]) -> bool:
    ours = labels.DEPLOYMENT in (pod["metadata"].get("labels") or {})
    conditions = pod["status"].get("conditions") or []
    return ours and any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
