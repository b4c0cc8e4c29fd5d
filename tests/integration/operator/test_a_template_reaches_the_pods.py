"""spec.template on real pods: a sidecar runs beside the engine, and one that cannot run is told in the status."""

import sys
from collections.abc import Callable
from typing import Any

SIDECAR = "example.com/sidecar:1"


def a_template(code: str) -> dict[str, Any]:
    container = {
        "name": "beside",
        "image": SIDECAR,
        "args": ["-c", code],
        "volumeMounts": [{"name": "files", "mountPath": "/files"}],
    }
    return {
        "metadata": {"labels": {"team": "search"}},
        "spec": {"containers": [container], "volumes": [{"name": "files", "emptyDir": {}}]},
    }


def test_a_sidecar_runs_beside_the_engine_and_its_failure_is_told(
    place: Any, a_deployment: Callable[..., dict[str, Any]], images: Any
) -> None:
    images.add(SIDECAR, sys.executable)
    place.apply(a_deployment(template=a_template("import time; time.sleep(3600)")))
    place.eventually(place.has("Available", "True"))
    place.eventually(place.has("ConfigurationApplied", "True"))
    (pod,) = place.pods()
    assert [container["name"] for container in pod["spec"]["containers"]] == ["engine", "beside"]
    assert all(status["ready"] for status in pod["status"]["containerStatuses"])
    assert pod["metadata"]["labels"]["team"] == "search"

    place.apply(a_deployment(template=a_template("raise SystemExit(3)"), rollout={"maxSurge": 0, "maxUnavailable": 1}))
    place.eventually(place.has("Degraded", "True", "ContainerFailed"))
    assert "container beside ended (exit code 3)" in place.condition("Degraded")["message"]


def test_a_mount_that_the_api_server_refuses_is_told_with_its_path(
    place: Any, a_deployment: Callable[..., dict[str, Any]]
) -> None:
    template = a_template("pass")
    template["spec"]["volumes"] = []
    place.apply(a_deployment(replicas=0, template=template))
    place.eventually(place.has("Degraded", "True", "WriteRefused"))
    assert "volumeMounts[0].name: Not found" in place.condition("Degraded")["message"]
