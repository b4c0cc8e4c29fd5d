"""One authority per cluster: its servers and clients know each other, another cluster's are strangers."""

from __future__ import annotations

import socket
import ssl
import stat
import threading
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.x509.oid import NameOID
from localcluster.certificates import Authority, Identity, client_context
from localcluster.kubeconfig import write_kubeconfig


def test_a_client_of_the_same_authority_is_let_in(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    server, client = authority.issue("server", hosts=["127.0.0.1"]), authority.issue("admin", ["system:masters"])
    peer = _handshake(server, authority.certificate, client_context(authority.certificate, client))
    assert (("commonName", "admin"),) in peer["subject"]


def test_a_client_of_another_authority_is_refused(tmp_path: Path) -> None:
    ours, theirs = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs")
    stranger = client_context(ours.certificate, theirs.issue("admin", ["system:masters"]))
    with pytest.raises(ssl.SSLError):
        _handshake(ours.issue("server", hosts=["127.0.0.1"]), ours.certificate, stranger)


def test_a_server_is_valid_for_its_hosts_only(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    elsewhere = authority.issue("server", hosts=["127.0.0.9", "kubernetes.default.svc"])
    with pytest.raises(ssl.SSLCertVerificationError, match=r"127\.0\.0\.1"):
        _handshake(elsewhere, authority.certificate, client_context(authority.certificate, authority.issue("admin")))


def test_the_user_and_the_groups_are_in_the_subject(tmp_path: Path) -> None:
    identity = Authority(tmp_path).issue("system:node:a", ["system:nodes"], file="node")
    subject = x509.load_pem_x509_certificate(identity.certificate.read_bytes()).subject
    assert [one.value for one in subject.get_attributes_for_oid(NameOID.COMMON_NAME)] == ["system:node:a"]
    assert [one.value for one in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)] == ["system:nodes"]
    assert identity.certificate == tmp_path / "node.crt"


def test_private_keys_and_kubeconfigs_are_the_owners_alone(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "certificates")
    identity = authority.issue("admin")
    kubeconfig = write_kubeconfig(
        tmp_path / "kubeconfig", server="https://127.0.0.1:1", authority=authority.certificate, user="admin",
        identity=identity,
    )  # fmt: skip
    for secret in (identity.key, authority.signing_key("tokens").key, kubeconfig):
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert yaml.safe_load(kubeconfig.read_text())["clusters"][0]["cluster"]["server"] == "https://127.0.0.1:1"


def _handshake(server: Identity, authority: Path, client: ssl.SSLContext) -> dict[str, object]:
    """What the server sees of the client. Raises ssl.SSLError from whichever side refuses."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority))
    context.load_cert_chain(server.certificate, server.key)
    context.verify_mode = ssl.CERT_REQUIRED
    seen: list[dict[str, object]] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                try:
                    with context.wrap_socket(connection, server_side=True) as tls:
                        seen.append(dict(tls.getpeercert() or {}))
                        tls.sendall(b"x")
                except (ssl.SSLError, OSError):
                    return

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            with (
                socket.create_connection(listener.getsockname(), timeout=10) as connection,
                client.wrap_socket(connection, server_hostname="127.0.0.1") as tls,
            ):
                tls.recv(1)  # in TLS 1.3 the server's refusal comes with the first read
        finally:
            thread.join(10)
    return seen[0]
