"""Every command of docs/operations.md, in its order: helm's chart on a cluster of two nodes, the image a process."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from localcluster import Cluster, NodeSpec
from tests.integration.operator.conftest import IMAGE, REPOSITORY
from tests.integration.operator.place import Place

PAGE = (REPOSITORY / "docs" / "operations.md").read_text()
REGISTRY = "registry.example.com"
BLOCK_SECONDS = 300
SIGHT_SECONDS = 10.0  # until the operator has seen what the API server says, on a busy machine too
ENDING = "jsonpath={.items[*].metadata.deletionTimestamp}"


def blocks() -> list[tuple[str, str]]:
    """The shell blocks with their sections."""
    sections = [section.partition("\n") for section in PAGE.split("\n## ")[1:]]
    return [(title, block) for title, _, text in sections for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL)]


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Place]:
    """A cluster of two nodes without the operator, and a namespace that the user's kubectl works in."""
    operator = {"entrypoint": [sys.executable, "-m", "shift_operator.controller"]}
    engine = {"entrypoint": [sys.executable, str(Path(__file__).with_name("fake_engine.py"))]}
    images = tmp_path / "images.yaml"
    names = {f"{REGISTRY}/shift-operator:0.1.0": operator, IMAGE: engine}
    images.write_text(yaml.safe_dump({"images": names}))
    nodes = [NodeSpec("node-0", 4), NodeSpec("node-1", 4)]
    with Cluster(tmp_path / "cluster", nodes=nodes, images=images, prometheus=False) as cluster:
        cluster.kubectl("create", "namespace", "prod")
        cluster.kubectl("config", "set-context", "--current", "--namespace", "prod")
        yield Place(cluster, "prod")


def test_every_section_has_its_commands() -> None:
    titles = re.findall(r"^## (.*)", PAGE, re.MULTILINE)
    assert list(dict.fromkeys(title for title, _ in blocks())) == titles


@pytest.mark.timeout(900)
def test_the_commands_do_what_the_page_says(empty: Place, a_deployment: Callable[..., dict[str, Any]]) -> None:
    place, output = empty, {}
    variables = {"REGISTRY": REGISTRY, "PROMETHEUS": "http://127.0.0.1:9"}
    environment = place.cluster.environment() | variables

    def run(title: str) -> None:
        """All blocks of a section."""
        output[title] = ""
        for block in (text for section, text in blocks() if section == title):
            command = ["bash", "-euo", "pipefail", "-xc", block]
            done = subprocess.run(
                command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=BLOCK_SECONDS
            )
            assert done.returncode == 0, f"{title}: {done.stdout}\n{done.stderr}"
            output[title] += done.stdout

    def pods() -> set[str]:
        return {pod["metadata"]["uid"] for pod in place.pods()}

    def complete() -> bool:
        found = place.get("sd", "chat")
        taken_up = found.get("status", {}).get("observedGeneration") == found["metadata"]["generation"]
        return taken_up and place.has("Progressing", "True", "RolloutComplete")()

    titles = iter(dict.fromkeys(title for title, _ in blocks()))

    def next_section(title: str) -> None:
        assert next(titles) == title
        run(title)

    next_section("Install")
    place.apply(a_deployment())
    place.eventually(complete)
    next_section("See how it is")
    assert "Available=True ReplicasReady: 1 of 1 replicas serve" in output["See how it is"]

    next_section("Change the number of replicas")
    place.eventually(complete)
    first = pods()
    assert len(first) == 2
    with place.watching() as seen:
        next_section("Roll out a change")
        place.eventually(complete)
        second = pods()
        next_section("Roll back")
        place.eventually(complete)
        third = pods()
        assert len(first | second | third) == 6

        next_section("Drain a node")
        place.eventually(complete)
        assert pods() & third != third, "the node had one of them"
    assert seen.fewest_ready >= 1

    schedule = place.get("configmap", "chat-schedule")["data"]
    next_section("Pause and go on")
    place.eventually(complete)
    assert place.get("configmap", "chat-schedule")["data"] == schedule

    # Replicas that still end hold their GPUs, and those that have no node yet none: a budget counts them so.
    place.eventually(lambda: place.kubectl("get", "pods", "--output", ENDING).strip() == "")
    place.eventually(lambda: place.get("sd", "chat")["status"].get("readyReplicas") == 2)
    time.sleep(SIGHT_SECONDS)
    policy = "Try a policy out, then let it work"
    next_section(policy)
    assert "PrometheusAvailable=False QueryFailed: " in output[policy]
    assert "WithinBudget=True WithinBudget: 4 of 8 GPUs in use" in output[policy], output[policy]

    running = pods()
    assert len(running) == 2
    next_section("Upgrade, and go back")
    history = json.loads(place.cluster.helm("history", "shift-operator", "--namespace=shift-operator", "--output=json"))
    assert [(release["revision"], release["status"]) for release in history][-1] == (3, "deployed")
    place.kubectl("scale", "sd", "chat", "--replicas=1")
    place.eventually(lambda: len(pods()) == 1)
    assert pods() < running, "an upgrade restarts no replica, and the operator works after it"

    next_section("Uninstall")
    assert pods() < running
    assert next(titles, None) is None
