"""What an engine measured at its start becomes a ShiftProfile of the cluster; a user's own is left alone."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.sample_calibration import AS_A_PROFILE, GPU

RESYNCS_SECONDS = 4


@pytest.fixture
def named_gpus(cluster: Any) -> Iterator[None]:
    """The nodes name their GPUs, as the device plugin's feature discovery has them do."""
    cluster.kubectl("label", "nodes", "--all", f"nvidia.com/gpu.product={GPU}")
    yield
    cluster.kubectl("label", "nodes", "--all", "nvidia.com/gpu.product-")
    cluster.kubectl("delete", "shiftprofiles", "--all")


def test_a_calibration_becomes_a_profile_that_a_user_may_take_over(
    place: Any, a_deployment: Callable[..., dict[str, Any]], named_gpus: None
) -> None:
    model = f"file:///models/{place.namespace}"

    def of_model() -> list[dict[str, Any]]:
        items = json.loads(place.kubectl("get", "shiftprofiles", "--output", "json"))["items"]
        return [item for item in items if item["spec"]["key"]["model"] == model]

    def kv_tokens() -> int:
        (profile,) = of_model()
        return int(profile["spec"]["kvTokens"])

    place.apply(a_deployment(model={"uri": model, "name": "tiny"}))
    place.eventually(of_model)
    (profile,) = of_model()
    assert profile["spec"] == {
        "key": {
            "model": model,
            "gpu": GPU,
            "gpusPerReplica": 2,
            "degree": {"sequence": 2, "tensor": 1},
            "engineVersion": "0.1.0",
        },
        **AS_A_PROFILE,
        "otherDegrees": [{"sequence": 1, "tensor": 2, "kvTokens": 480_000}],
    }

    def change(**spec: Any) -> None:
        patch = json.dumps({"spec": spec})
        place.kubectl("patch", "shiftprofile", profile["metadata"]["name"], "--type", "merge", "--patch", patch)

    change(kvTokens=1000)
    place.eventually(lambda: kv_tokens() == 480_000)  # the operator's own is written over

    change(kvTokens=1000, source="User")
    time.sleep(RESYNCS_SECONDS)
    assert kv_tokens() == 1000
