"""A revision that never serves: the last good one's pods come back, and the status says so until the spec changes."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ADeployment = Callable[..., dict[str, Any]]
RESYNCS_SECONDS = 4
ROLLOUT = {"progressDeadlineSeconds": 60, "maxUnavailable": 0}
DEGREE = {"gpusPerReplica": 4, "degree": {"sequence": 4, "tensor": 1}}
OTHER_DEGREE = {"gpusPerReplica": 4, "degree": {"sequence": 2, "tensor": 2}}


def degrees(place: Any) -> list[str]:
    """Those that the schedule file of the Deployment's pods names, in its order."""
    (engine,) = place.get("deployment", "chat")["spec"]["template"]["spec"]["containers"]
    file = Path(engine["args"][engine["args"].index("--shift-schedule-file") + 1]).name
    schedule = json.loads(place.get("configmap", "chat-schedule")["data"][file])
    return [f"{part['sequence']}x{part['tensor']}" for part in schedule["ranges"]]


def test_the_last_good_revision_comes_back_and_the_next_edit_tries_anew(
    place: Any, a_deployment: ADeployment, audit: Any
) -> None:
    place.apply(a_deployment(rollout=ROLLOUT, parallelism=DEGREE))
    place.eventually(place.has("Progressing", "True", "RolloutComplete"))
    (before,) = place.pods()

    broken = {"uri": "file:///models/tiny", "name": "broken"}
    place.apply(a_deployment(rollout=ROLLOUT, parallelism=OTHER_DEGREE, model=broken))
    place.eventually(place.has("Degraded", "True", "EngineFailed"))
    place.eventually(place.has("Progressing", "False", "RolledBack"))
    message = place.condition("Progressing")["message"]
    assert message.startswith(
        "went back from revision 2 (example.com/fake-engine:1) to revision 1 (example.com/fake-engine:1): no replica "
        "became ready for 60 s; pod chat-"
    )
    assert message.endswith("cannot load model /models/tiny: no such architecture")
    place.eventually(lambda: place.notes("RolledBack") == [message])
    place.eventually(lambda: [pod["metadata"]["uid"] for pod in place.pods()] == [before["metadata"]["uid"]])
    place.eventually(place.has("Degraded", "False", "AsExpected"))
    assert place.condition("Available")["status"] == "True"
    # The schedule is one that these pods can run, and the status shows the degree that they have.
    assert degrees(place) == ["1x4", "4x1"]
    assert place.get("sd", "chat")["status"]["degree"] == "4x1"
    place.eventually(place.has("ConfigurationApplied", "True"))

    place.eventually(lambda: place.get("deployment", "chat")["status"].get("updatedReplicas") == 1)
    audit.mark()
    time.sleep(RESYNCS_SECONDS)
    assert [write for write in audit.writes() if f" {place.namespace}/" in write] == []

    # What takes effect live goes on doing so, with the good pods.
    place.kubectl("scale", "sd", "chat", "--replicas=2")
    place.eventually(lambda: place.get("sd", "chat")["status"].get("readyReplicas") == 2)
    assert place.condition("Progressing")["reason"] == "RolledBack"
    # The node has 8 GPUs: one replica beside the one that runs.
    place.kubectl("scale", "sd", "chat", "--replicas=1")
    place.eventually(lambda: len(place.pods()) == 1)

    mended = {"uri": "file:///models/tiny", "name": "mended"}
    place.apply(a_deployment(rollout=ROLLOUT, parallelism=OTHER_DEGREE, model=mended))
    place.eventually(place.has("Progressing", "True", "RolloutComplete"))
    args = [pod["spec"]["containers"][0]["args"] for pod in place.pods()]
    assert all("mended" in words for words in args)
    assert "shiftparallel.io/rolled-back" not in place.get("deployment", "chat")["metadata"]["annotations"]
    assert degrees(place) == ["1x4", "2x2"]
    assert place.get("sd", "chat")["status"]["degree"] == "2x2"
    place.eventually(place.has("ConfigurationApplied", "True"))
