"""A real Kubernetes control plane on one machine: no Docker, no root, loopback only.

`Cluster` is for tests, `localcluster` (cli.py) for people. Names are resolved when first asked for, so that the node
agent, a process of this package, does not load what only its parent needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from localcluster.cluster import Cluster
    from localcluster.kubelet.node import NodeSpec

__all__ = ["Cluster", "NodeSpec"]


def __getattr__(name: str) -> Any:
    if name == "Cluster":
        from localcluster.cluster import Cluster

        return Cluster
    if name == "NodeSpec":
        from localcluster.kubelet.node import NodeSpec

        return NodeSpec
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
