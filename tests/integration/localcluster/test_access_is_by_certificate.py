"""Nobody unknown is let in, health aside; the node agent's and Prometheus' rights end where their work does."""

from __future__ import annotations

import ssl
import urllib.error
import urllib.request

import pytest
from localcluster.errors import CommandFailed

from localcluster import Cluster


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/healthz"])
def test_the_anonymous_may_ask_for_health(cluster: Cluster, path: str) -> None:
    with urllib.request.urlopen(f"{cluster.server}{path}", context=_trusting(cluster), timeout=60) as answer:
        assert answer.status == 200


@pytest.mark.parametrize("path", ["/version", "/metrics", "/api/v1/namespaces"])
def test_the_anonymous_may_ask_for_nothing_else(cluster: Cluster, path: str) -> None:
    with pytest.raises(urllib.error.HTTPError, match="401") as refused:
        urllib.request.urlopen(f"{cluster.server}{path}", context=_trusting(cluster), timeout=60)
    refused.value.close()


def _trusting(cluster: Cluster) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(cluster.directory / "certificates" / "ca.crt"))


@pytest.mark.parametrize(
    ("user", "groups", "may", "may_not"),
    [
        ("localcluster:prometheus", [], "list pods", "list secrets"),
        ("system:node:any", ["system:nodes"], "create serviceaccounts --subresource=token", "create deployments"),
    ],
)
def test_components_have_the_rights_they_need(
    cluster: Cluster, user: str, groups: list[str], may: str, may_not: str
) -> None:
    identity = [f"--as={user}", *(f"--as-group={group}" for group in groups)]
    assert cluster.kubectl("auth", "can-i", *may.split(), *identity) == "yes\n"
    with pytest.raises(CommandFailed, match="exit code 1"):
        cluster.kubectl("auth", "can-i", *may_not.split(), *identity)
