"""The node agent: every node's kubelet and the Service proxy in one process (package `localcluster.kubelet`)."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from localcluster.kubelet.node import NodeSpec
from localcluster.site import Component, Site

USER = "system:node:localcluster"
GROUP = "system:nodes"


def node_agent(site: Site, nodes: Sequence[NodeSpec], images: Path | None) -> Component:
    kubeconfig = site.component_kubeconfig(USER, GROUP, file="node-agent")
    network, address = site.network, site.address("node-agent")
    argv = (
        sys.executable,
        "-m",
        "localcluster.kubelet",
        f"--kubeconfig={kubeconfig}",
        *(f"--node={node.name}:{node.gpus}" for node in nodes),
        *([f"--images={images.absolute()}"] if images else []),
        f"--root={site.path('nodes')}",
        f"--pod-cidr={network.pod_cidr}",
        f"--service-cidr={network.service_cidr}",
        f"--port={site.ports['node-agent']}",
        f"--tls-cert={site.server.certificate}",
        f"--tls-key={site.server.key}",
        f"--client-ca={site.authority.certificate}",
    )
    return Component("node-agent", argv, address, f"https://{address}/healthz", grace_seconds=10.0)
