"""The chart's values: the defaults hold to the schema, and what is mistyped or meaningless is refused with its path."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

CHART = Path(__file__).parents[3] / "charts" / "shift-operator"
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())


def faults(**changes: Any) -> list[str]:
    values = copy.deepcopy(VALUES)
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = values
        for name in parents:
            place = place[name]
        place[last] = value
    validator = jsonschema.Draft7Validator(SCHEMA)
    return [".".join(map(str, fault.absolute_path)) for fault in validator.iter_errors(values)]


def test_the_defaults_are_valid_and_complete() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    assert faults() == []
    assert VALUES.keys() == SCHEMA["properties"].keys() - {"global"}


def test_every_object_but_those_of_kubernetes_is_closed() -> None:
    def open_objects(schema: dict[str, Any], path: str) -> list[str]:
        found = [path] if schema.get("type") == "object" and "additionalProperties" not in schema else []
        for name, field in schema.get("properties", {}).items():
            found += open_objects(field, f"{path}.{name}")
        return found

    assert open_objects(SCHEMA, "") == [".affinity", ".global"]


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"prometheus__url": "prometheus:9090"}, "prometheus.url"),
        ({"prometheus__uri": "http://prometheus:9090"}, "prometheus"),
        ({"prometheus__tokenSecret": {"secret": "x"}}, "prometheus.tokenSecret"),
        ({"replicaCount": 2}, ""),
        ({"replicas": 0}, "replicas"),
        ({"instance": "team a"}, "instance"),
        ({"image__tag": "latest"}, "image.tag"),
        ({"image__digest": "sha256:12"}, "image.digest"),
        ({"image__pullPolicy": "always"}, "image.pullPolicy"),
        ({"decisionIntervalSeconds": 0}, "decisionIntervalSeconds"),
        ({"decisionIntervalSeconds": "15s"}, "decisionIntervalSeconds"),
        ({"logLevel": "info"}, "logLevel"),
        ({"watchNamespaces": ["Team_A"]}, "watchNamespaces.0"),
        ({"watchNamespaces": ["a", "a"]}, "watchNamespaces"),
        ({"extraArgs": ["resync-seconds=300"]}, "extraArgs.0"),
        ({"podAnnotations": {"a": True}}, "podAnnotations.a"),
    ],
)
def test_a_bad_value_is_refused_at_its_path(changes: dict[str, Any], path: str) -> None:
    assert faults(**changes) == [path]


@pytest.mark.parametrize(
    "changes",
    [
        {"prometheus__url": "https://prometheus.example.com/tenant-a"},
        {"prometheus__tokenSecret": {"name": "prometheus", "key": "token"}},
        {"image__digest": "sha256:" + "0" * 64},
        {"decisionIntervalSeconds": 2},
        {"replicas": 1},
        {"instance": "team-a"},
        {"watchNamespaces": ["team-a", "team-b"]},
        {"resources": {}},
        {"global": {"anything": 1}},
    ],
)
def test_a_good_value_is_accepted(changes: dict[str, Any]) -> None:
    assert faults(**changes) == []


def test_every_value_has_a_comment() -> None:
    """Each top-level value is explained, or belongs to the pod's own fields, whose meaning is Kubernetes'."""
    lines = (CHART / "values.yaml").read_text().splitlines()
    kubernetes_own = {"imagePullSecrets", "podAnnotations", "podLabels", "nodeSelector", "tolerations", "affinity"}
    for name in (
        VALUES.keys() - kubernetes_own - {"priorityClassName", "serviceAccount", "crds", "metrics", "prometheus"}
    ):
        (at,) = (number for number, line in enumerate(lines) if line.startswith(f"{name}:"))
        assert lines[at - 1].startswith("#"), name
