"""`eval "$(localcluster env)"`: kubectl, helm, promtool and the Prometheus URL, and no file in the home folder."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from .conftest import Run

CHART = "apiVersion: v2\nname: one\nversion: 0.1.0\n"
CONFIG_MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: from-helm}\ndata: {release: '{{ .Release.Name }}'}\n"


def test_kubectl_helm_and_prometheus_after_eval(localcluster: Run, directory: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "chart" / "templates").mkdir(parents=True)
    (tmp_path / "chart" / "Chart.yaml").write_text(CHART)
    (tmp_path / "chart" / "templates" / "one.yaml").write_text(CONFIG_MAP)
    assert localcluster("up", "--dir", directory).returncode == 0
    exports = localcluster("env", "--dir", directory)
    assert exports.returncode == 0
    script = f"""set -e
eval "$1"
helm install first {tmp_path / "chart"} --wait >&2
kubectl get configmap from-helm -o 'jsonpath={{.data.release}}'; echo
promtool query instant "$PROMETHEUS_URL" 'vector(42)'
"""
    result = subprocess.run(
        ["/bin/sh", "-c", script, "sh", exports.stdout],
        env={"HOME": str(home), "PATH": os.defpath},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    release, value = result.stdout.splitlines()
    assert release == "first"
    assert "42" in value
    assert list(home.iterdir()) == []


def test_env_of_no_cluster_is_an_error(localcluster: Run, directory: Path) -> None:
    result = localcluster("env", "--dir", directory)
    assert (result.returncode, result.stdout) == (1, "")
    assert "`localcluster up` starts one" in result.stderr
