"""kube-scheduler, as it is."""

from __future__ import annotations

from localcluster.ports import LOOPBACK
from localcluster.site import Component, Site


def scheduler(site: Site) -> Component:
    kubeconfig = site.component_kubeconfig("system:kube-scheduler", file="kube-scheduler")
    address = site.address("kube-scheduler")
    argv = (
        str(site.binaries["kube-scheduler"]),
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        f"--bind-address={LOOPBACK}",
        f"--secure-port={site.ports['kube-scheduler']}",
        f"--tls-cert-file={site.server.certificate}",
        f"--tls-private-key-file={site.server.key}",
        f"--client-ca-file={site.authority.certificate}",
        "--leader-elect=false",
        "--profiling=false",
    )
    return Component("kube-scheduler", argv, address, f"https://{address}/healthz")
