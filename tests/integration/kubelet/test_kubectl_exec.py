"""`kubectl exec` through the API server: output, input, exit code, container paths."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from localcluster.errors import CommandFailed


async def test_a_command_runs_beside_the_container(kube: Any) -> None:
    await kube.create("configmaps", "seen", data={"a": "inside\n"})
    await kube.pod(
        "host",
        spec={"volumes": [{"name": "v", "configMap": {"name": "seen"}}]},
        volumeMounts=[{"name": "v", "mountPath": "/etc/seen"}],
    )
    await kube.until_ready("host")
    assert await kube.kubectl("exec", "host", "--", "cat", "/etc/seen/a") == "inside\n"
    assert await kube.kubectl("exec", "host", "--", "sh", "-c", "echo $HOSTNAME") == "host\n"
    with pytest.raises(CommandFailed, match="exit code 3"):
        await kube.kubectl("exec", "host", "--", "sh", "-c", "exit 3")
    with pytest.raises(CommandFailed, match="nonesuch"):
        await kube.kubectl("exec", "host", "--", "nonesuch")
    given = await asyncio.to_thread(kube.cluster.kubectl, "exec", "-i", "host", "--", "cat", stdin="typed\n")
    assert given == "typed\n"
