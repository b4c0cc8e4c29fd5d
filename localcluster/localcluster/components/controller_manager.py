"""kube-controller-manager: every controller but those that a cluster on loopback cannot have."""

from __future__ import annotations

from localcluster.ports import LOOPBACK
from localcluster.site import Component, Site

WITHOUT = (
    # The API refuses loopback addresses in Endpoints and EndpointSlices; the node agent's proxy takes their place.
    "endpoints-controller",
    "endpointslice-controller",
    "endpointslice-mirroring-controller",
    # Pods' addresses are the node agent's business; no disks can be attached to a process.
    "node-ipam-controller",
    "persistentvolume-attach-detach-controller",
)


def controller_manager(site: Site) -> Component:
    kubeconfig = site.component_kubeconfig("system:kube-controller-manager", file="kube-controller-manager")
    address = site.address("kube-controller-manager")
    argv = (
        str(site.binaries["kube-controller-manager"]),
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        f"--bind-address={LOOPBACK}",
        f"--secure-port={site.ports['kube-controller-manager']}",
        f"--tls-cert-file={site.server.certificate}",
        f"--tls-private-key-file={site.server.key}",
        f"--client-ca-file={site.authority.certificate}",
        "--leader-elect=false",
        f"--controllers={','.join(['*', *(f'-{name}' for name in WITHOUT)])}",
        "--use-service-account-credentials",
        f"--service-account-private-key-file={site.signing.key}",
        f"--root-ca-file={site.authority.certificate}",
        # A node agent renews its leases every 3 s. Silence is noticed after 20 s, not 50, but never for a busy machine.
        "--node-monitor-period=2s",
        "--node-monitor-grace-period=20s",
        # The default of 20 requests a second makes the start wait for some forty ServiceAccounts.
        "--kube-api-qps=200",
        "--kube-api-burst=400",
        "--profiling=false",
    )
    return Component("kube-controller-manager", argv, address, f"https://{address}/healthz")
