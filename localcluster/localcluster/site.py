"""What the components of one cluster share: its directory, networks, ports, certificates and programs."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from localcluster import certificates
from localcluster.certificates import Authority, Identity
from localcluster.kubeconfig import write_kubeconfig
from localcluster.ports import LOOPBACK, Network

SERVERS = (
    "etcd",
    "etcd-peer",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "prometheus",
    "node-agent",
)


@dataclass(frozen=True)
class Component:
    """A program of the cluster: how it runs, where it listens, and which URL answers 200 once it is ready."""

    name: str
    argv: tuple[str, ...]
    address: str
    health: str
    grace_seconds: float = 5.0


@dataclass(frozen=True)
class Site:
    """Made anew at every start: `prepare` writes the certificates and kubeconfigs that the components' flags name."""

    directory: Path
    network: Network
    binaries: Mapping[str, Path]
    authority: Authority
    server: Identity
    admin: Identity
    signing: Identity
    ports: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def prepare(cls, directory: Path, network: Network, binaries: Mapping[str, Path]) -> Site:
        """`directory` must be there and empty."""
        (directory / "logs").mkdir()
        authority = Authority(directory / "certificates")
        names = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
        return cls(
            directory,
            network,
            binaries,
            authority,
            server=authority.issue(
                "server", hosts=[LOOPBACK, network.api_service_address, "localhost", *names], file="server"
            ),
            # The group passes every authorisation check, so no binding is needed before the first request.
            admin=authority.issue("admin", ["system:masters"]),
            signing=authority.signing_key("service-accounts"),
            ports={name: network.port() for name in SERVERS},
        )

    def address(self, server: str) -> str:
        """host:port of one of SERVERS."""
        return f"{LOOPBACK}:{self.ports[server]}"

    @property
    def api_server(self) -> str:
        return f"https://{self.address('kube-apiserver')}"

    def path(self, name: str) -> Path:
        return self.directory / name

    def log(self, component: str) -> Path:
        return self.directory / "logs" / f"{component}.log"

    def kubeconfig(self, user: str, identity: Identity, file: str) -> Path:
        """Write a kubeconfig for `user`."""
        return write_kubeconfig(
            self.path(file),
            server=self.api_server,
            authority=self.authority.certificate,
            user=user,
            identity=identity,
        )

    def component_kubeconfig(self, user: str, *groups: str, file: str) -> Path:
        """Issue a client certificate for a component and write its kubeconfig."""
        return self.kubeconfig(user, self.authority.issue(user, groups, file=file), f"{file}.kubeconfig")

    def client_context(self) -> ssl.SSLContext:
        """TLS as the administrator: every component answers to it."""
        return certificates.client_context(self.authority.certificate, self.admin)
