"""Prometheus finds the pods by itself and gives their series the labels that docs/contract.md names."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from localcluster.components.prometheus import Scraping, configuration

from localcluster import Cluster, binaries

from .conftest import eventually

SERVER = """
import http.server, os
class Metrics(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.end_headers()
        self.wfile.write(b"answer{path=\\"%s\\"} 42\\n" % self.path.encode())
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer((os.environ["POD_IP"], 8000), Metrics).serve_forever()
"""


@pytest.fixture(scope="module")
def monitored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster with Prometheus at a short interval, and the image `metrics`: a server on $(POD_IP):8000."""
    directory = tmp_path_factory.mktemp("monitored")
    images = directory / "images.yaml"
    images.write_text(yaml.safe_dump({"images": {"metrics": {"entrypoint": [sys.executable, "-c", SERVER]}}}))
    with Cluster(directory / "cluster", images=images, scraping=Scraping(0.5)) as cluster:
        yield cluster


def pod(name: str, metadata: dict[str, Any], port_name: str) -> str:
    address = {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
    container = {
        "name": "engine",
        "image": "metrics",
        "env": [address],
        "ports": [{"name": port_name, "containerPort": 8000}, {"name": "other", "containerPort": 9999}],
    }
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, **metadata},
        "spec": {"containers": [container]},
    }
    return json.dumps(body)


def series(cluster: Cluster, query: str) -> list[dict[str, str]]:
    url = f"{cluster.prometheus_url}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    with urllib.request.urlopen(url, timeout=60) as answer:
        return [sample["metric"] for sample in json.load(answer)["data"]["result"]]


def test_an_engine_pod_is_scraped_with_namespace_deployment_and_pod(monitored: Cluster) -> None:
    labels = {"app.kubernetes.io/name": "shift-engine", "shiftparallel.io/deployment": "chat"}
    monitored.kubectl("create", "--filename=-", stdin=pod("chat-0", {"labels": labels}, "http"))
    eventually(lambda: series(monitored, 'answer{pod="chat-0"}') != [], "the engine's pod is not scraped")
    [metric] = series(monitored, 'answer{pod="chat-0"}')
    assert {name: metric[name] for name in ("job", "namespace", "deployment", "pod", "path")} == {
        "job": "shift-engine", "namespace": "default", "deployment": "chat", "pod": "chat-0", "path": "/metrics",
    }  # fmt: skip


def test_an_annotated_pod_is_scraped_once_at_the_port_and_path_it_names(monitored: Cluster) -> None:
    annotations = {"prometheus.io/scrape": "true", "prometheus.io/port": "8000", "prometheus.io/path": "/here"}
    monitored.kubectl("create", "--filename=-", stdin=pod("operator-0", {"annotations": annotations}, "metrics"))
    eventually(lambda: series(monitored, 'answer{pod="operator-0"}') != [], "the annotated pod is not scraped")
    [metric] = series(monitored, 'answer{pod="operator-0"}')
    assert (metric["job"], metric["path"], metric["instance"].rpartition(":")[2]) == ("annotated-pods", "/here", "8000")


def test_promtool_accepts_it_with_further_files(tmp_path: Path) -> None:
    rules, scrapes, kubeconfig = tmp_path / "rules.yaml", tmp_path / "scrapes.yaml", tmp_path / "kubeconfig"
    rules.write_text("groups: [{name: a, rules: [{record: one, expr: vector(1)}]}]\n")
    scrapes.write_text("scrape_configs: [{job_name: more, static_configs: [{targets: ['127.0.0.1:1']}]}]\n")
    kubeconfig.touch()
    config = tmp_path / "prometheus.yaml"
    config.write_text(yaml.safe_dump(configuration(kubeconfig, Scraping(0.5, [scrapes], [rules]))))
    promtool = binaries.find(["promtool"])["promtool"]
    result = subprocess.run(
        [promtool, "check", "config", config], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr
