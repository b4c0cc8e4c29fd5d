"""docs/contract.md, section 4: Prometheus adds namespace, deployment and pod by relabelling from the pod's labels."""

from __future__ import annotations

from pathlib import Path

from localcluster.components.prometheus import Scraping, configuration


def test_the_engines_series_get_the_contracts_three_labels() -> None:
    engines = configuration(Path("/kubeconfig"), Scraping())["scrape_configs"][0]
    targets = {rule.get("target_label"): rule for rule in engines["relabel_configs"]}
    assert {"namespace", "deployment", "pod"} <= targets.keys()
    assert targets["deployment"]["source_labels"] == ["__meta_kubernetes_pod_label_shiftparallel_io_deployment"]
