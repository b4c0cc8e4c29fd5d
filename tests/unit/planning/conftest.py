"""Builders: a ShiftDeployment as the API server hands it out, with what the test cares about changed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from shift_operator.api.shiftdeployment import ShiftDeployment

BODY: dict[str, Any] = {
    "metadata": {"name": "chat", "namespace": "prod", "uid": "5f1c", "generation": 3},
    "spec": {
        "model": {"uri": "file:///models/tiny"},
        "engine": {"image": "example.com/shift-engine:1"},
        "parallelism": {"gpusPerReplica": 2, "degree": {"sequence": 2, "tensor": 1}},
        "shift": {"thresholdTokens": 256, "thresholdRange": {"min": 16, "max": 1024}},
    },
}


def build(**changes: Any) -> ShiftDeployment:
    """Each change is a part of the spec; `status` is the status."""
    body = copy.deepcopy(BODY)
    status = changes.pop("status", None)
    for name, value in changes.items():
        known = body["spec"].get(name)
        body["spec"][name] = {**known, **value} if isinstance(known, dict) else value
    return ShiftDeployment.from_body(body | ({"status": status} if status else {}))


@pytest.fixture(scope="session")
def a_deployment() -> Callable[..., ShiftDeployment]:
    return build
