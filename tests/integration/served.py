"""Patience with kinds that were just installed."""

from __future__ import annotations

import time

from localcluster.errors import CommandFailed

from localcluster import Cluster

PATIENCE_SECONDS = 240.0


def served(cluster: Cluster, *kinds: str) -> None:
    """Waits until the API server knows the kinds.

    `kubectl wait` does not: it ends with an error where a CRD is so new that it has no conditions yet.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    for kind in kinds:
        while True:
            try:
                cluster.kubectl("get", kind, "--all-namespaces")
            except CommandFailed:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
            else:
                break
