"""A policy's Prometheus that fails in each way it can: the status says which and what helps, and nothing moves."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

import pytest
from shift_operator.api.signals import SOURCES

from tests.integration.operator.test_the_threshold_follows_the_metrics import series

Answer = Callable[[BaseHTTPRequestHandler], None]


class Failing:
    """A server whose `answer` can be set while it runs."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.over = Event()
        failing = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                failing.answer(self)

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:
                """A client that gives up is what this is about."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_port}"
        Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def silent(self, _: BaseHTTPRequestHandler) -> None:
        """Answers nothing until all is over."""
        self.over.wait(60)


@pytest.fixture
def failing(place: Any) -> Iterator[Failing]:
    """A Prometheus that knows the deployment's series, until it is told to fail."""
    failing = Failing(known(place.namespace))
    yield failing
    failing.over.set()
    failing.server.shutdown()
    failing.server.server_close()


def says(status: int, body: str, content_type: str = "application/json") -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        request.send_header("Content-Type", content_type)
        request.end_headers()
        request.wfile.write(body.encode())

    return answer


def known(namespace: str, *warnings: str) -> Answer:
    """The series of one pod, whose curves cross at 257 tokens."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        now = time.time()
        of_pod = {"namespace": namespace, "deployment": "chat", "signal": "metric_pods"}
        pods = [(of_pod | {"__name__": metric}, 1.0) for metric in set(SOURCES.values())]
        result = [
            {"metric": labels, "value": [now, str(now if value == "now" else value)]}
            for labels, value in (*series(namespace, crossover=257), *pods)
        ]
        body = {"status": "success", "data": {"resultType": "vector", "result": result}, "warnings": warnings}
        says(200, json.dumps(body))(request)

    return answer


def test_each_way_to_fail_is_said_and_moves_nothing(
    place: Any, failing: Failing, a_deployment: Callable[..., dict[str, Any]], a_policy: Callable[..., str]
) -> None:
    def desired() -> dict[str, Any]:
        shift: dict[str, Any] = place.get("sd", "chat")["status"]["shift"]["desired"]
        return shift

    a_policy(prometheus={"url": f"http://{failing.host}"})
    place.apply(a_deployment(shift={"mode": "Auto", "thresholdTokens": 16}))
    place.eventually(place.has("MetricsAvailable", "True", "MetricsFound"))
    place.eventually(lambda: desired()["thresholdTokens"] > 200)
    decided = desired()

    unreachable, prometheus = ("Unknown", "PrometheusUnreachable"), f"Prometheus at {failing.host}"
    for answer, (status, reason), said in (
        (says(401, "no", "text/plain"), unreachable, "it does not accept our token; set spec.prometheus.bearerToken"),
        (says(503, '{"error": "still replaying the WAL"}'), unreachable, "answered 503: still replaying the WAL"),
        (says(200, "<html>Log in</html>", "text/html"), unreachable, "no query result (text/html); check spec.prom"),
        (lambda request: request.connection.close(), unreachable, "broke the connection off"),
        (failing.silent, unreachable, "gave no whole answer within 5 s"),
        (known(place.namespace, "a store is away"), ("False", "MetricsPartial"), "Prometheus warns: a store is away"),
    ):
        failing.answer = answer
        place.eventually(lambda said=said: said in place.condition("MetricsAvailable").get("message", ""))
        assert place.has("MetricsAvailable", status, reason)()
        assert reason == "MetricsPartial" or prometheus in place.condition("MetricsAvailable")["message"]
        assert desired() == decided

    failing.answer = known(place.namespace)
    place.eventually(place.has("MetricsAvailable", "True", "MetricsFound"))
    assert desired() == decided
