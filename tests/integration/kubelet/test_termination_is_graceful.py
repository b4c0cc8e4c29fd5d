"""preStop, then SIGTERM, then SIGKILL within the grace; the object goes when the processes have gone."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

# Writes what happens to it, with times, into a directory of this machine, which outlives the pod.
LISTENER = """
import signal, time, pathlib
def note(what):
    with open("/notes/notes", "a") as file:
        print(time.time(), what, file=file)
signal.signal(signal.SIGTERM, lambda *_: (note("TERM"), time.sleep({after}), note("done"), exit(0)))
note("up")
while True:
    time.sleep(0.05)
"""


def notes(directory: Path) -> list[str]:
    path = directory / "notes"
    return [line.split()[1] for line in path.read_text().splitlines()] if path.exists() else []


async def a_listener(kube: Any, name: str, directory: Path, *, after: float, grace: int, **container: Any) -> None:
    await kube.pod(
        name,
        image="python:3",
        args=[LISTENER.format(after=after)],
        volumeMounts=[{"name": "notes", "mountPath": "/notes"}],
        spec={
            "volumes": [{"name": "notes", "hostPath": {"path": str(directory)}}],
            "terminationGracePeriodSeconds": grace,
        },
        **container,
    )
    for _ in range(200):
        if notes(directory):
            return
        await asyncio.sleep(0.05)
    raise TimeoutError


async def test_pre_stop_comes_before_term(kube: Any, tmp_path: Path) -> None:
    hook = {"preStop": {"exec": {"command": ["sh", "-c", "echo 0 preStop >> /notes/notes; sleep 0.5"]}}}
    await a_listener(kube, "prestop", tmp_path, after=0.2, grace=10, lifecycle=hook)
    await kube.delete("pods", "prestop")
    await kube.until_gone("prestop")
    assert notes(tmp_path) == ["up", "preStop", "TERM", "done"]


async def test_the_grace_ends_with_kill(kube: Any, tmp_path: Path) -> None:
    await a_listener(kube, "stubborn", tmp_path, after=60, grace=1)
    began = time.monotonic()
    await kube.delete("pods", "stubborn")
    pod = await kube.get("pods", "stubborn")
    assert pod["metadata"]["deletionTimestamp"]
    await kube.until_gone("stubborn")
    assert time.monotonic() - began >= 1
    assert notes(tmp_path) == ["up", "TERM"]


async def test_pre_stop_uses_up_the_grace(kube: Any, tmp_path: Path) -> None:
    hook = {"preStop": {"sleep": {"seconds": 2}}}
    await a_listener(kube, "slowstop", tmp_path, after=60, grace=2, lifecycle=hook)
    began = time.monotonic()
    await kube.delete("pods", "slowstop")
    await kube.until_gone("slowstop")
    assert notes(tmp_path) == ["up", "TERM"]  # SIGTERM still gets its two seconds
    assert time.monotonic() - began >= 4


async def test_a_second_deletion_shortens_the_first(kube: Any, tmp_path: Path) -> None:
    await a_listener(kube, "impatient", tmp_path, after=60, grace=600)
    await kube.delete("pods", "impatient")
    await kube.delete("pods", "impatient", grace=1)
    await kube.until_gone("impatient")


async def test_post_start_runs_before_readiness_and_its_failure_restarts(kube: Any) -> None:
    hook = {"postStart": {"exec": {"command": ["sh", "-c", "echo nope; exit 7"]}}}
    await kube.pod("poststart", lifecycle=hook)
    await kube.until("poststart", lambda pod: pod["status"].get("containerStatuses", [{}])[0].get("restartCount"))
    event = await kube.until_event("poststart", "FailedPostStartHook")
    assert event["message"] == "PostStartHook failed: command exited with 7: nope"
