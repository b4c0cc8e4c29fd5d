"""Kubeconfig files with everything inside, so that one can be copied anywhere on this machine."""

from __future__ import annotations

import base64
from pathlib import Path

import yaml

from localcluster.certificates import Identity

CONTEXT = "localcluster"


def write_kubeconfig(path: Path, *, server: str, authority: Path, user: str, identity: Identity) -> Path:
    """Write the file, readable by its owner alone; gives back its path."""
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": CONTEXT,
        "contexts": [{"name": CONTEXT, "context": {"cluster": CONTEXT, "user": user}}],
        "clusters": [
            {"name": CONTEXT, "cluster": {"server": server, "certificate-authority-data": _encoded(authority)}},
        ],
        "users": [
            {
                "name": user,
                "user": {
                    "client-certificate-data": _encoded(identity.certificate),
                    "client-key-data": _encoded(identity.key),
                },
            }
        ],
    }
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def _encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
