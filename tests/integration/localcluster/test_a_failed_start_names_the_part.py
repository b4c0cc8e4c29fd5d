"""A component that cannot start: exit code 1, its name, its last lines, and nothing of the others is left."""

from __future__ import annotations

from pathlib import Path

import pytest
from localcluster.errors import ComponentDied

from localcluster import Cluster

from .conftest import Run, processes_of


def test_a_bad_flag_is_told_in_the_components_own_words(localcluster: Run, directory: Path) -> None:
    up = localcluster("up", "--dir", directory, "--flag", "kube-scheduler=--no-such-flag")
    assert up.returncode == 1
    assert "localcluster: kube-scheduler ended with exit code 1; the last lines of" in up.stderr
    assert "unknown flag: --no-such-flag" in up.stderr
    assert processes_of(directory) == []
    assert localcluster("status", "--dir", directory).returncode == 1


def test_a_taken_port_names_the_component_that_wanted_it(tmp_path: Path, cluster: Cluster) -> None:
    """The other cluster's port, forced upon this one's API server."""
    port = cluster.server.rpartition(":")[2]
    second = Cluster(tmp_path / "second", prometheus=False, extra_flags={"kube-apiserver": [f"--secure-port={port}"]})
    with pytest.raises(ComponentDied, match="address already in use") as died:
        second.up()
    assert died.value.name == "kube-apiserver"
    assert processes_of(tmp_path / "second") == []
    second.down()


def test_bad_options_are_refused_before_anything_starts(localcluster: Run, directory: Path) -> None:
    for options, why in (
        (["--node", "gpu-node"], "write NAME:GPUS, for example node-0:8"),
        (["--flag", "kube-apiserver"], "write COMPONENT=FLAG"),
    ):
        up = localcluster("up", "--dir", directory, *options)
        assert up.returncode == 2
        assert why in up.stderr
    (directory / "precious").touch()
    up = localcluster("up", "--dir", directory)
    assert up.returncode == 1
    assert "not empty and no cluster made it" in up.stderr
    assert [entry.name for entry in directory.iterdir()] == ["precious"]
