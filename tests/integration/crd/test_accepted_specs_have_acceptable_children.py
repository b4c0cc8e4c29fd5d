"""A sample of random specs before a real API server: what it accepts is planned, and it accepts the children as well.

The sample is the same in each run. Nothing is stored.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from shift_operator.api.shiftdeployment import ShiftDeployment
from shift_operator.planning.plan import plan
from shift_operator.planning.schedule import next_schedule

from localcluster import Cluster
from tests.unit.planning.schema_specs import likely

SAMPLE = 150
FEWEST_ACCEPTED = 60
"""Below this the sample would no longer say much; the rules accept 134 of these."""


def sample() -> list[dict[str, Any]]:
    specs: list[dict[str, Any]] = []

    @settings(
        max_examples=SAMPLE,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
    @given(likely)
    def draw(spec: dict[str, Any]) -> None:
        specs.append(spec)

    draw()
    return specs


def answers(cluster: Cluster, bodies: Sequence[dict[str, Any]], *verb: str) -> tuple[list[dict[str, Any]], str]:
    """The objects as the API server would store them, and what it says of those that it refuses."""
    result = subprocess.run(
        [str(cluster.binary("kubectl")), *verb, "--dry-run=server", "--output", "json", "--filename", "-"],
        env=cluster.environment(),
        input=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(bodies)}),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    return list(documents(result.stdout)), result.stderr


def documents(text: str) -> Iterator[dict[str, Any]]:
    """The JSON objects that kubectl prints one after the other."""
    decoder, rest = json.JSONDecoder(), text.lstrip()
    while rest:
        document, end = decoder.raw_decode(rest)
        yield from document["items"] if document["kind"] == "List" else [document]
        rest = rest[end:].lstrip()


@pytest.fixture(scope="module")
def accepted(crd: Cluster) -> list[dict[str, Any]]:
    bodies = [
        {
            "apiVersion": "shiftparallel.io/v1alpha1",
            "kind": "ShiftDeployment",
            "metadata": {"name": f"drawn-{number}", "namespace": "default"},
            "spec": spec,
        }
        for number, spec in enumerate(sample())
    ]
    stored, refusals = answers(crd, bodies, "create")
    assert len(stored) >= FEWEST_ACCEPTED, refusals
    return stored


def test_what_is_accepted_is_planned_and_its_children_are_accepted(
    crd: Cluster, accepted: list[dict[str, Any]]
) -> None:
    children = []
    for body in accepted:
        deployment = ShiftDeployment.from_body(body)
        children += plan(deployment, next_schedule(deployment.spec, None), deployment.spec.replicas)
    assert len(children) >= 5 * len(accepted)
    _, refusals = answers(
        crd, [child.body for child in children], "apply", "--server-side", "--field-manager=shift-operator"
    )
    assert [line for line in refusals.splitlines() if not line.startswith("Warning: ")] == []
