"""For tests of what happens in an outage: a component killed and started again, the cluster's state kept."""

from __future__ import annotations

from pathlib import Path

import pytest
from localcluster.errors import CommandFailed, NotUp

from localcluster import Cluster


def test_the_api_server_may_die_and_come_back_with_all_objects(tmp_path: Path) -> None:
    with Cluster(tmp_path / "cluster", prometheus=False, kubelet=False) as cluster:
        cluster.kubectl("create", "configmap", "kept")
        cluster.process("kube-apiserver").kill()
        with pytest.raises(CommandFailed):
            cluster.kubectl("get", "configmap", "kept")
        cluster.restart("kube-apiserver")
        assert cluster.kubectl("get", "configmap", "kept", "--output=name") == "configmap/kept\n"
        with pytest.raises(NotUp, match="there is etcd, kube-apiserver"):
            cluster.restart("kubelet")
