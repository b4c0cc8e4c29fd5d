"""What another version of the operator wrote must not stop this one: unknown fields and words are no error."""

from __future__ import annotations

from typing import Any

from shift_operator.api.shiftdeployment import ShiftDeployment

BODY: dict[str, Any] = {
    "metadata": {"name": "chat", "namespace": "prod", "uid": "u", "generation": 3, "managedFields": []},
    "spec": {
        "model": {"uri": "hf://org/name", "quantization": "fp8"},
        "engine": {"image": "x:1"},
        "parallelism": {"gpusPerReplica": 2, "degree": {"sequence": 2, "tensor": 1, "mode": "Auto"}},
        "slo": {"ttft": {"milliseconds": 800}},
    },
    "status": {
        "observedGeneration": 2,
        "decisions": [
            {
                "time": "2026-01-02T03:04:05Z",
                "kind": "Replicas",
                "from": "1",
                "to": "2",
                "reason": "SLOAtRisk",
                "outcome": "Limited",
                "message": "",
            }
        ],
        "conditions": [
            {
                "type": "CapacityAvailable",
                "status": "False",
                "reason": "NoGPUs",
                "message": "",
                "lastTransitionTime": "2026-01-02T03:04:05Z",
            }
        ],
    },
}


def test_fields_and_words_of_a_newer_version_are_read() -> None:
    deployment = ShiftDeployment.from_body(BODY)
    assert deployment.status is not None
    assert deployment.status.decisions[0].to == "2"
    capacity = deployment.status.condition("CapacityAvailable")
    assert capacity is not None
    assert capacity.reason == "NoGPUs"


def test_a_status_is_the_same_after_a_trip_over_the_wire() -> None:
    status = ShiftDeployment.from_body(BODY).status
    assert status is not None
    assert type(status).from_body(status.to_body()) == status
    assert status.to_body()["decisions"][0]["from"] == "1"
    assert status.to_body()["decisions"][0]["time"] == "2026-01-02T03:04:05Z"
