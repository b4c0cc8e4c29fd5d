"""One cluster for the whole run: etcd, API server, controller-manager, scheduler and the node agent, all real.

`namespace` gives each test a place of its own. A folder that needs another one (Prometheus, more nodes) makes its own:
`with Cluster(tmp_path_factory.mktemp("cluster"), nodes=[...], prometheus=True) as cluster: yield cluster`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from localcluster import Cluster, NodeSpec

_numbers = itertools.count(1)


@dataclass
class ImageFile:
    """The node agent's image file, which it reads again when it changes."""

    path: Path
    images: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, name: str, *entrypoint: str, **fields: Any) -> None:
        """Let pods use `name`: `entrypoint` is the command, `fields` are env, files, ... of kubelet/images.py."""
        self.images[name] = {"entrypoint": list(entrypoint), **fields}
        self.path.write_text(yaml.safe_dump({"images": self.images}))


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> ImageFile:
    """The images that the session's cluster knows: none until a test adds one."""
    file = ImageFile(tmp_path_factory.mktemp("images") / "images.yaml")
    file.path.write_text("images: {}\n")
    return file


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory, images: ImageFile) -> Iterator[Cluster]:
    """A running cluster with one node of 8 GPUs and an audit log, without Prometheus."""
    directory = tmp_path_factory.mktemp("cluster")
    with Cluster(directory, nodes=[NodeSpec("node-0", 8)], images=images.path, prometheus=False) as running:
        yield running


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A new namespace, deleted (not awaited) after the test."""
    name = f"test-{next(_numbers)}"
    cluster.kubectl("create", "namespace", name)
    cluster.kubectl("wait", "--namespace", name, "--for=create", "serviceaccount/default", "--timeout=240s")
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")
