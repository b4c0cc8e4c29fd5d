"""etcd: one member, TLS on both ports, no fsync (a cluster's state lives as long as its processes)."""

from __future__ import annotations

from localcluster.site import Component, Site


def etcd(site: Site) -> Component:
    client, peer = (f"https://{site.address(server)}" for server in ("etcd", "etcd-peer"))
    authority, server = site.authority.certificate, site.server
    argv = (
        str(site.binaries["etcd"]),
        "--name=local",
        f"--data-dir={site.path('etcd')}",
        "--unsafe-no-fsync",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--cert-file={server.certificate}",
        f"--key-file={server.key}",
        f"--trusted-ca-file={authority}",
        "--client-cert-auth",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=local={peer}",
        f"--peer-cert-file={server.certificate}",
        f"--peer-key-file={server.key}",
        f"--peer-trusted-ca-file={authority}",
        "--peer-client-cert-auth",
        "--log-level=warn",
    )
    return Component("etcd", argv, site.address("etcd"), f"{client}/readyz")
