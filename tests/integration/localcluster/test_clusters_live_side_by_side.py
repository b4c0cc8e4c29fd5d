"""Two clusters at once: each answers for itself."""

from __future__ import annotations

from pathlib import Path

from localcluster import Cluster, NodeSpec


def test_a_second_cluster_has_its_own_state_and_networks(tmp_path: Path, cluster: Cluster) -> None:
    with Cluster(tmp_path / "second", nodes=[NodeSpec("other", 1)], prometheus=False) as second:
        second.kubectl("create", "namespace", "only-here")
        assert "only-here" in second.kubectl("get", "namespaces")
        assert "only-here" not in cluster.kubectl("get", "namespaces")
        assert second.kubectl("get", "nodes", "--output=name") == "node/other\n"
        assert second.network.service_cidr != cluster.network.service_cidr
        assert second.kubectl("get", "service", "kubernetes", "--output=jsonpath={.spec.clusterIP}").startswith(
            second.network.service_cidr.removesuffix("0.0/16")
        )
