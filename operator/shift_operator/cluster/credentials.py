"""Where the API server is and who we are: from KUBECONFIG, else from the pod's own ServiceAccount.

A pod of a real cluster has the mounted token; a process of the local cluster has KUBECONFIG with a `tokenFile`. Both
are files that are renewed under us, so they are read again: when `TOKEN_TTL_SECONDS` old, or at once after a 401.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.config import ConfigException
from kubernetes.aio.config.kube_config import load_kube_config

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
TOKEN_TTL_SECONDS = 60.0


class NoCredentials(Exception):
    """Neither KUBECONFIG nor a ServiceAccount leads to an API server; the text says what was tried."""


@dataclass
class Credentials:
    """An API server and our identity there. `configuration` is the client's; it holds the CA and client certificate."""

    configuration: Configuration
    token_file: Path | None = None
    _token: str | None = field(default=None, repr=False)
    _read_at: float = field(default=-TOKEN_TTL_SECONDS, repr=False)

    @property
    def server(self) -> str:
        return str(self.configuration.host)

    def token(self, *, fresh: bool = False) -> str | None:
        """The bearer token, re-read from its file when it is a minute old or `fresh` is asked; None with certificates.

        A file that cannot be read now (it is being replaced) leaves the last token in use.
        """
        if self.token_file is None:
            return self._token
        if fresh or time.monotonic() - self._read_at >= TOKEN_TTL_SECONDS:
            try:
                self._token = self.token_file.read_text(encoding="utf-8").strip()
            except OSError:
                if self._token is None:
                    raise
            self._read_at = time.monotonic()
        return self._token


async def load_credentials(environ: Mapping[str, str] = os.environ) -> Credentials:
    """Credentials from KUBECONFIG if it is set, from the ServiceAccount inside a pod, else from ~/.kube/config.

    Raises NoCredentials when none of these can be read.
    """
    kubeconfig = environ.get("KUBECONFIG")
    if not kubeconfig and environ.get("KUBERNETES_SERVICE_HOST"):
        return _from_service_account(environ)
    path = Path(kubeconfig or "~/.kube/config").expanduser()
    configuration = Configuration()
    try:
        await load_kube_config(  # type: ignore[no-untyped-call]
            str(path), client_configuration=configuration, persist_config=False
        )
        token_file = _token_file(path)
    except (ConfigException, OSError, yaml.YAMLError) as error:
        how = "set KUBECONFIG to a readable kubeconfig, or run in a pod with a ServiceAccount token"
        raise NoCredentials(f"kubeconfig {path}: {error}; {how}") from error
    static = str(configuration.api_key.get("BearerToken", "")).removeprefix("Bearer ") or None
    return Credentials(configuration, token_file, _token=static)


def _from_service_account(environ: Mapping[str, str]) -> Credentials:
    host, port = environ["KUBERNETES_SERVICE_HOST"], environ.get("KUBERNETES_SERVICE_PORT", "443")
    token_file, ca_file = SERVICE_ACCOUNT / "token", SERVICE_ACCOUNT / "ca.crt"
    for file in (token_file, ca_file):
        if not file.is_file():
            raise NoCredentials(f"{file} does not exist; the pod needs automountServiceAccountToken: true")
    configuration = Configuration()
    configuration.host = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    configuration.ssl_ca_cert = str(ca_file)
    return Credentials(configuration, token_file)


def _token_file(kubeconfig: Path) -> Path | None:
    """The `tokenFile` of the current context's user; the client library reads it once and forgets where it was."""
    config: dict[str, Any] = yaml.safe_load(kubeconfig.read_text(encoding="utf-8")) or {}
    contexts = {entry["name"]: entry["context"] for entry in config.get("contexts") or []}
    users = {entry["name"]: entry["user"] for entry in config.get("users") or []}
    user = users.get(contexts.get(config.get("current-context"), {}).get("user")) or {}
    return kubeconfig.parent / user["tokenFile"] if "tokenFile" in user else None
