"""LeaderWorkerSet as somebody installs it: its kind, its controller, and the webhooks that the API server calls there.

The webhooks' Service would need a cluster network; here their address is a port of this machine.
"""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path
from typing import Any

import yaml

from localcluster.ports import LOOPBACK
from localcluster.site import Component, Site

PROGRAM = "lws-controller"
KIND, WEBHOOKS = "kind.yaml", "webhooks.yaml"
PATH = "/apis/leaderworkerset.x-k8s.io/v1/leaderworkersets"
GROUPED = {"matchExpressions": [{"key": "leaderworkerset.sigs.k8s.io/name", "operator": "Exists"}]}


def leader_worker_set(site: Site, program: Path, webhook_port: int, health_port: int) -> Component:
    """The controller, which also answers the webhooks."""
    directory = site.path(PROGRAM)
    directory.mkdir()
    shutil.copyfile(site.server.certificate, directory / "tls.crt")
    shutil.copyfile(site.server.key, directory / "tls.key")
    address = f"{LOOPBACK}:{health_port}"
    config = {
        "apiVersion": "config.lws.x-k8s.io/v1alpha1",
        "kind": "Configuration",
        "leaderElection": {"leaderElect": False},
        "internalCertManagement": {"enable": False},
        "webhook": {"host": LOOPBACK, "port": webhook_port, "certDir": str(directory)},
        "health": {"healthProbeBindAddress": address},
        "metrics": {"bindAddress": "0"},
    }
    (directory / "config.yaml").write_text(yaml.safe_dump(config))
    kubeconfig = site.component_kubeconfig(PROGRAM, "system:masters", file=PROGRAM)
    argv = (str(program), f"--kubeconfig={kubeconfig}", f"--config={directory / 'config.yaml'}")
    return Component(PROGRAM, argv, address, f"http://{address}/readyz")


def webhooks(site: Site, manifest: Path, port: int) -> str:
    """The webhook configurations of the release, for a controller that answers at this port. JSON for kubectl."""
    authority = base64.b64encode(site.authority.certificate.read_bytes()).decode()
    configurations = list(yaml.safe_load_all(manifest.read_text()))
    for configuration in configurations:
        configuration["metadata"]["name"] = f"lws-{configuration['metadata']['name']}"
        for webhook in configuration["webhooks"]:
            _redirect(webhook, authority, port)
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": configurations})


def _redirect(webhook: dict[str, Any], authority: str, port: int) -> None:
    path = webhook["clientConfig"]["service"]["path"]
    webhook["clientConfig"] = {"url": f"https://{LOOPBACK}:{port}{path}", "caBundle": authority}
    if any("pods" in rule["resources"] for rule in webhook["rules"]):
        webhook["objectSelector"] = GROUPED  # the release's own patch: no other pod waits for this controller
