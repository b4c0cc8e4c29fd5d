"""`kubectl logs` through the API server: whole, tail, timestamps, follow, the attempt before."""

from __future__ import annotations

from typing import Any

import pytest
from localcluster.errors import CommandFailed


async def test_the_log_of_a_running_container(kube: Any) -> None:
    await kube.pod("talker", image="sh:1", args=["for i in 1 2 3; do echo line $i; done; exec sleep 600"])
    await kube.until_ready("talker")
    for _ in range(50):
        if "line 3" in await kube.kubectl("logs", "talker"):
            break
    assert await kube.kubectl("logs", "talker") == "line 1\nline 2\nline 3\n"
    assert await kube.kubectl("logs", "talker", "--tail=1") == "line 3\n"
    assert await kube.kubectl("logs", "talker", "--limit-bytes=6") == "line 1"
    stamped = (await kube.kubectl("logs", "talker", "--timestamps", "--tail=1")).split(" ", 1)
    assert stamped[0].startswith("20")
    assert stamped[1] == "line 3\n"


async def test_following_ends_with_the_container(kube: Any) -> None:
    await kube.pod(
        "counter", image="sh:1", args=["for i in 1 2 3; do echo $i; sleep 0.4; done"], spec={"restartPolicy": "Never"}
    )
    await kube.until("counter", lambda pod: pod["status"]["phase"] != "Pending")
    assert await kube.kubectl("logs", "-f", "counter") == "1\n2\n3\n"


async def test_the_attempt_before(kube: Any) -> None:
    program = "f=/scratch/n; echo x >> $f; echo attempt $(wc -l < $f); [ $(wc -l < $f) = 1 ] && exit 1; exec sleep 600"
    await kube.pod(
        "second",
        image="sh:1",
        args=[program],
        volumeMounts=[{"name": "scratch", "mountPath": "/scratch"}],
        spec={"volumes": [{"name": "scratch", "emptyDir": {}}]},
    )
    await kube.until("second", lambda pod: pod["status"].get("containerStatuses", [{}])[0].get("restartCount") == 1)
    await kube.until_ready("second")
    assert await kube.kubectl("logs", "--previous", "second") == "attempt 1\n"


async def test_a_container_that_has_not_run_has_no_log(kube: Any) -> None:
    await kube.pod("silent", image="example.com/nope:1")
    await kube.until("silent", lambda pod: pod["status"].get("containerStatuses"))
    with pytest.raises(CommandFailed, match="is waiting to start"):
        await kube.kubectl("logs", "silent")
