"""What becomes of a container that ends: policy, back-off, exit codes, last words, init containers, deadlines."""

from __future__ import annotations

from typing import Any

import pytest


def main_status(pod: dict[str, Any]) -> dict[str, Any]:
    return dict(pod["status"].get("containerStatuses", [{"state": {}, "lastState": {}, "restartCount": 0}])[0])


async def test_a_crashing_container_backs_off(kube: Any) -> None:
    await kube.pod("crash", image="sh:1", args=["echo dying; echo the disk is full > /dev/termination-log; exit 3"])
    pod = await kube.until(
        "crash", lambda pod: main_status(pod)["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff"
    )
    status = main_status(pod)
    assert status["restartCount"] >= 1
    assert status["lastState"]["terminated"]["exitCode"] == 3
    assert status["lastState"]["terminated"]["reason"] == "Error"
    assert status["lastState"]["terminated"]["message"] == "the disk is full\n"
    assert pod["status"]["phase"] == "Running"
    await kube.until("crash", lambda pod: main_status(pod)["restartCount"] >= 3)
    event = await kube.until_event("crash", "BackOff")
    assert event["message"].startswith("Back-off restarting failed container main in pod crash_default(")


async def test_the_log_stands_in_for_missing_last_words(kube: Any) -> None:
    await kube.pod(
        "lastwords",
        image="sh:1",
        args=["echo no model at /models; exit 1"],
        terminationMessagePolicy="FallbackToLogsOnError",
        spec={"restartPolicy": "Never"},
    )
    pod = await kube.until("lastwords", lambda pod: pod["status"]["phase"] == "Failed")
    assert main_status(pod)["state"]["terminated"]["message"] == "no model at /models\n"


@pytest.mark.parametrize(
    ("policy", "code", "phase"), [("Never", 0, "Succeeded"), ("Never", 4, "Failed"), ("OnFailure", 0, "Succeeded")]
)
async def test_a_pod_that_is_over(kube: Any, policy: str, code: int, phase: str) -> None:
    name = f"over-{policy.lower()}-{code}"
    await kube.pod(name, image="sh:1", args=[f"exit {code}"], spec={"restartPolicy": policy})
    pod = await kube.until(name, lambda pod: pod["status"]["phase"] == phase)
    assert main_status(pod)["state"]["terminated"]["exitCode"] == code
    assert main_status(pod)["restartCount"] == 0


async def test_init_containers_run_first_and_in_order(kube: Any) -> None:
    mount = {"volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}]}
    ready = {"exec": {"command": ["test", "-s", "/scratch/order"]}, "periodSeconds": 1}
    await kube.pod(
        "initialized",
        image="sh:1",
        args=["echo main >> /scratch/order; cp /scratch/order /dev/termination-log"],
        **mount,
        spec={
            "restartPolicy": "Never",
            "volumes": [{"name": "scratch", "emptyDir": {}}],
            "initContainers": [
                {"name": "sidecar", "image": "sh:1", "args": ["echo sidecar >> /scratch/order; exec sleep 600"],
                 "restartPolicy": "Always", "startupProbe": ready, **mount},
                {"name": "first", "image": "sh:1", "args": ["echo first >> /scratch/order"], **mount},
                {"name": "second", "image": "sh:1", "args": ["echo second >> /scratch/order"], **mount},
            ],
        },
    )  # fmt: skip
    pod = await kube.until("initialized", lambda pod: pod["status"]["phase"] == "Succeeded")
    assert main_status(pod)["state"]["terminated"]["message"] == "sidecar\nfirst\nsecond\nmain\n"
    assert [one["name"] for one in pod["status"]["initContainerStatuses"]] == ["sidecar", "first", "second"]
    assert "terminated" in pod["status"]["initContainerStatuses"][0]["state"]


async def test_an_active_deadline_ends_the_pod(kube: Any) -> None:
    await kube.pod("deadline", spec={"activeDeadlineSeconds": 1})
    pod = await kube.until("deadline", lambda pod: pod["status"]["phase"] == "Failed")
    assert pod["status"]["reason"] == "DeadlineExceeded"


async def test_a_program_that_is_not_there(kube: Any) -> None:
    await kube.pod("nonesuch", image="sh:1", command=["/bin/nonesuch"], spec={"restartPolicy": "Never"})
    pod = await kube.until("nonesuch", lambda pod: pod["status"]["phase"] == "Failed")
    terminated = main_status(pod)["state"]["terminated"]
    assert (terminated["reason"], terminated["exitCode"]) == ("StartError", 128)
    assert terminated["message"] == 'exec "/bin/nonesuch": No such file or directory'
