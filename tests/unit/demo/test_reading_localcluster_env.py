"""`localcluster env` is written for a shell's eval; the demo reads the same lines."""

from __future__ import annotations

import pytest

from demo.cluster import exports


def test_exports_become_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin")
    text = "export KUBECONFIG=/c/admin.kubeconfig\nexport PATH=/c/bin:$PATH\nexport PROMETHEUS_URL='http://127.0.0.1:9090'\n"
    assert exports(text) == {
        "KUBECONFIG": "/c/admin.kubeconfig",
        "PATH": "/c/bin:/usr/bin",
        "PROMETHEUS_URL": "http://127.0.0.1:9090",
    }


def test_other_lines_are_left_alone() -> None:
    assert exports("# to use it:\nunset KUBECONFIG\n") == {}
