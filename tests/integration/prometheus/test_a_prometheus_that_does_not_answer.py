"""Prometheus down, slow, closed to us, failing, or something else altogether: the right error each, with one deadline.

The servers are real and local; only what they answer is set here.
"""

import json
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from threading import Event, Thread

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from shift_operator.api.metrics_source import MetricsSource
from shift_operator.prometheus.client import PrometheusClient
from shift_operator.prometheus.errors import (
    BadAnswer,
    PrometheusError,
    ServerError,
    TimedOut,
    Unauthorized,
    Unreachable,
)

Answer = Callable[[BaseHTTPRequestHandler], None]
Serve = Callable[..., str]

NOW = 1_800_000_000.0
VECTOR = {"resultType": "vector", "result": [{"metric": {"pod": "chat-0"}, "value": [NOW, "NaN"]}]}


def says(status: int, body: object, content_type: str = "application/json") -> Answer:
    """Answers every request alike; what is no text goes as JSON."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        request.send_header("Content-Type", content_type)
        request.end_headers()
        request.wfile.write((body if isinstance(body, str) else json.dumps(body)).encode())

    return answer


@pytest.fixture
def serve() -> Iterator[Serve]:
    """`serve(answer, tls=None)` starts an HTTP server and returns its URL."""
    servers: list[ThreadingHTTPServer] = []

    def start(answer: Answer, tls: ssl.SSLContext | None = None) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer(self)

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:
                """A client that gives up is what these tests are about."""

        server = Server(("127.0.0.1", 0), Handler)
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        servers.append(server)
        return f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def failure(client: PrometheusClient) -> PrometheusError:
    """The error that a query ends with."""
    with pytest.raises(PrometheusError) as raised:
        client.query("up", NOW)
    client.close()
    return raised.value


def test_down(serve: Serve) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    error = failure(PrometheusClient(f"http://127.0.0.1:{port}"))
    assert isinstance(error, Unreachable)
    assert str(error) == f"Prometheus at 127.0.0.1:{port} cannot be reached: Connection refused; check --prometheus-url"


def test_connected_and_then_silent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # the kernel accepts, nobody answers
        port = silent.getsockname()[1]
        begun = time.monotonic()
        error = failure(PrometheusClient(f"http://127.0.0.1:{port}", timeout_seconds=0.5))
    assert isinstance(error, TimedOut)
    assert str(error).startswith(f"Prometheus at 127.0.0.1:{port} gave no whole answer within 0.5 s; ")
    assert time.monotonic() - begun < 10, "four tries of the library's own take far longer"


def test_an_answer_that_drips_has_the_same_deadline(serve: Serve) -> None:
    over = Event()

    def drip(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        while not over.wait(0.1):
            request.wfile.write(b" ")
            request.wfile.flush()

    try:
        assert isinstance(failure(PrometheusClient(serve(drip), timeout_seconds=0.5)), TimedOut)
    finally:
        over.set()


def test_a_connection_that_breaks_within_the_answer(serve: Serve) -> None:
    def break_off(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "1000")
        request.end_headers()
        request.wfile.write(b"{")

    assert isinstance(failure(PrometheusClient(serve(break_off))), Unreachable)


@pytest.mark.parametrize("status", [401, 403])
def test_a_token_that_is_not_accepted(serve: Serve, tmp_path: Path, status: int) -> None:
    token_file = tmp_path / "token"
    token_file.write_text("the-secret\n")
    url = serve(says(status, "no", "text/plain"))
    error = failure(PrometheusClient(url, token_file=token_file))
    assert isinstance(error, Unauthorized)
    assert f"answered {status}" in str(error)
    assert "--prometheus-token-file" in str(error)
    assert "the-secret" not in str(error)


def test_no_token_where_one_is_wanted(serve: Serve) -> None:
    error = failure(PrometheusClient(serve(says(401, "no", "text/plain"))))
    assert "set --prometheus-token-file" in str(error)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_failing_server_is_asked_once(serve: Serve, status: int) -> None:
    asked: list[str] = []

    def fail(request: BaseHTTPRequestHandler) -> None:
        asked.append(request.path)
        says(status, {"status": "error", "errorType": "timeout", "error": "query timed out"})(request)

    url = serve(fail)
    error = failure(PrometheusClient(url))
    assert isinstance(error, ServerError)
    host = url.removeprefix("http://")
    assert str(error) == f"Prometheus at {host} answered {status}: query timed out; its own log says more"
    assert len(asked) == 1, "the next tick asks again, the client does not"


@pytest.mark.parametrize(
    ("status", "body", "content_type"),
    [
        pytest.param(200, "<html>Log in</html>", "text/html", id="a login page"),
        pytest.param(200, "", "application/json", id="nothing"),
        pytest.param(200, "[]", "application/json", id="no object"),
        pytest.param(200, {"status": "success"}, "application/json", id="no data"),
        pytest.param(200, {"data": {"resultType": "scalar", "result": [NOW, "1"]}}, "application/json", id="a scalar"),
        pytest.param(200, {"data": {"result": [{"metric": {}, "value": [NOW]}]}}, "application/json", id="no value"),
        pytest.param(200, {"data": {"result": [{"metric": {}, "value": [NOW, 1]}]}}, "application/json", id="a number"),
        pytest.param(200, {"data": {"result": [{"metric": {}, "value": [NOW, "x"]}]}}, "application/json", id="a word"),
        pytest.param(200, {"data": {"result": [{"value": [NOW, "1"]}]}}, "application/json", id="no labels"),
        pytest.param(404, "404 page not found", "text/plain", id="another path"),
        pytest.param(400, {"status": "error", "error": "bad"}, "application/json", id="a refused query"),
        pytest.param(414, "URI Too Long", "text/html", id="a proxy with short lines"),
    ],
)
def test_what_is_no_query_result(serve: Serve, status: int, body: object, content_type: str) -> None:
    url = serve(says(status, body, content_type))
    error = failure(PrometheusClient(url))
    assert isinstance(error, BadAnswer)
    assert url.removeprefix("http://") in str(error)


def test_values_come_as_they_are_and_warnings_with_them(serve: Serve) -> None:
    client = PrometheusClient(serve(says(200, {"status": "success", "data": VECTOR, "warnings": ["a store is away"]})))
    result = client.query("up", NOW)
    client.close()
    assert result.warnings == ("a store is away",)
    assert [dict(sample.labels) for sample in result.samples] == [{"pod": "chat-0"}]
    assert result.samples[0].value != result.samples[0].value, "NaN stays NaN, to be judged by who reads it"


def test_the_token_is_read_again_for_each_query(serve: Serve, tmp_path: Path) -> None:
    seen: list[str | None] = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        seen.append(request.headers["Authorization"])
        says(200, {"status": "success", "data": VECTOR})(request)

    token_file = tmp_path / "token"
    client = PrometheusClient(serve(answer), token_file=token_file)
    with pytest.raises(Unauthorized, match=r"token file .* cannot be read \(No such file or directory\)"):
        client.query("up", NOW)
    for token in ("first", "second"):
        token_file.write_text(f"{token}\n")
        client.query("up", NOW)
    client.close()
    assert seen == ["Bearer first", "Bearer second"]


def test_the_environment_sends_us_nowhere(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    client = PrometheusClient(serve(says(200, {"status": "success", "data": VECTOR})))
    client.check()
    client.close()


def test_a_password_in_the_url_is_not_repeated() -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    error = failure(PrometheusClient(f"http://user:hidden@127.0.0.1:{port}"))
    assert "hidden" not in str(error)
    assert f"127.0.0.1:{port}" in str(error)


def test_a_certificate_must_verify_and_does_with_its_ca(serve: Serve, tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    url = serve(says(200, {"status": "success", "data": VECTOR}), tls)
    error = failure(PrometheusClient(url))
    assert isinstance(error, Unreachable)
    assert "does not verify" in str(error)
    assert "--prometheus-ca-file" in str(error)
    client = PrometheusClient(url, ca_file=certificate)
    client.check()
    client.close()


def test_verification_is_off_only_when_asked_for(serve: Serve, tmp_path: Path) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*self_signed(tmp_path))
    url = serve(says(200, {"status": "success", "data": VECTOR}), tls)
    client = PrometheusClient(url, insecure_skip_verify=True)
    client.check()
    client.close()
    assert isinstance(failure(PrometheusClient(url)), Unreachable)


@pytest.mark.parametrize(
    ("content", "wrong"),
    [(None, "cannot be read (No such file or directory)"), ("no certificate", "holds no certificates")],
)
def test_a_ca_file_that_is_none(serve: Serve, tmp_path: Path, content: str | None, wrong: str) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*self_signed(tmp_path))
    url = serve(says(200, {"status": "success", "data": VECTOR}), tls)
    ca_file = tmp_path / "ca.crt"
    if content is not None:
        ca_file.write_text(content)
    error = failure(PrometheusClient(url, ca_file=ca_file))
    assert isinstance(error, Unreachable)
    assert str(error).endswith(f"was not asked: the CA file {ca_file} {wrong}; check --prometheus-ca-file")


def test_a_new_ca_file_counts_without_a_restart(serve: Serve, tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    url = serve(says(200, {"status": "success", "data": VECTOR}), tls)
    (tmp_path / "other").mkdir()
    old, _ = self_signed(tmp_path / "other")
    ca_file = tmp_path / "ca.crt"
    ca_file.write_bytes(old.read_bytes())
    client = PrometheusClient(url, ca_file=ca_file)
    with pytest.raises(Unreachable, match="does not verify"):
        client.check()
    ca_file.write_bytes(certificate.read_bytes())
    client.check()
    client.close()


def test_the_errors_of_a_policys_own_prometheus_name_its_fields(serve: Serve, tmp_path: Path) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*self_signed(tmp_path))
    closed = serve(says(401, "no", "text/plain"))
    assert "set spec.prometheus.bearerTokenFile" in str(failure(PrometheusClient.of(MetricsSource(url=closed))))
    elsewhere = serve(says(404, "no", "text/plain"))
    assert "check spec.prometheus.url" in str(failure(PrometheusClient.of(MetricsSource(url=f"{elsewhere}/"))))
    encrypted = serve(says(200, {"status": "success", "data": VECTOR}), tls)
    assert "spec.prometheus.caFile" in str(failure(PrometheusClient.of(MetricsSource(url=encrypted))))
    client = PrometheusClient.of(MetricsSource(url=encrypted, insecure_skip_verify=True))
    client.check()
    client.close()


def self_signed(folder: Path) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "prometheus")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = folder / "tls.crt", folder / "tls.key"
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    key_file.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    return certificate_file, key_file
