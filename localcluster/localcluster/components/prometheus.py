"""Prometheus: finds pods by Kubernetes service discovery and labels their series as the chart's PodMonitor does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from localcluster.site import Component, Site

USER = "localcluster:prometheus"
POD = "__meta_kubernetes_pod"
ENGINES = "app.kubernetes.io/name=shift-engine"


@dataclass(frozen=True)
class Scraping:
    """How often, in seconds, and files of further `scrape_configs` and of rules."""

    interval_seconds: float = 2.0
    config_files: Sequence[Path] = ()
    rule_files: Sequence[Path] = ()


def prometheus(site: Site, scraping: Scraping) -> Component:
    kubeconfig = site.component_kubeconfig(USER, file="prometheus")
    config = site.path("prometheus.yaml")
    config.write_text(yaml.safe_dump(configuration(kubeconfig, scraping), sort_keys=False))
    address = site.address("prometheus")
    argv = (
        str(site.binaries["prometheus"]),
        f"--config.file={config}",
        f"--storage.tsdb.path={site.path('prometheus')}",
        "--storage.tsdb.retention.time=1d",
        f"--web.listen-address={address}",
        "--log.level=warn",
    )
    return Component("prometheus", argv, address, f"http://{address}/-/ready")


def configuration(kubeconfig: Path, scraping: Scraping) -> dict[str, Any]:
    """prometheus.yml: the engines, pods that ask by annotation, then what the caller adds."""
    interval = f"{round(scraping.interval_seconds * 1000)}ms"
    return {
        "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
        "rule_files": [str(path.absolute()) for path in scraping.rule_files],
        "scrape_config_files": [str(path.absolute()) for path in scraping.config_files],
        "scrape_configs": [_engines(kubeconfig), _annotated_pods(kubeconfig)],
    }


def _engines(kubeconfig: Path) -> dict[str, Any]:
    return {
        "job_name": "shift-engine",
        "kubernetes_sd_configs": [
            {"role": "pod", "kubeconfig_file": str(kubeconfig), "selectors": [{"role": "pod", "label": ENGINES}]}
        ],
        "relabel_configs": [
            {"action": "keep", "source_labels": [f"{POD}_container_port_name"], "regex": "http"},
            *_of_running_pods(),
            {"source_labels": [f"{POD}_label_shiftparallel_io_deployment"], "target_label": "deployment"},
        ],
    }


def _annotated_pods(kubeconfig: Path) -> dict[str, Any]:
    """Prometheus' old convention: the annotations prometheus.io/scrape, /port and /path. The operator's pod uses it."""
    port, path = f"{POD}_annotation_prometheus_io_port", f"{POD}_annotation_prometheus_io_path"
    return {
        "job_name": "annotated-pods",
        "kubernetes_sd_configs": [{"role": "pod", "kubeconfig_file": str(kubeconfig)}],
        "relabel_configs": [
            {"action": "keep", "source_labels": [f"{POD}_annotation_prometheus_io_scrape"], "regex": "true"},
            {"action": "drop", "source_labels": [f"{POD}_label_app_kubernetes_io_name"], "regex": "shift-engine"},
            *_of_running_pods(),
            # Every container port is a target of its own until all of a pod's targets have the same address here.
            {
                "source_labels": [f"{POD}_ip", port],
                "separator": ":",
                "regex": r"(.+:\d+)",
                "target_label": "__address__",
            },
            {"source_labels": [path], "regex": "(.+)", "target_label": "__metrics_path__"},
        ],
    }


def _of_running_pods() -> list[Mapping[str, Any]]:
    return [
        {"action": "keep", "source_labels": [f"{POD}_phase"], "regex": "Running"},
        {"source_labels": ["__meta_kubernetes_namespace"], "target_label": "namespace"},
        {"source_labels": [f"{POD}_name"], "target_label": "pod"},
    ]
