"""Prometheus's HTTP API with answers from a file: here it is tested what the operator does with them.

`canned_prometheus.py FILE` prints its port, then answers each query with the series in FILE, a JSON list of
[labels, value]; the value "now" is the time of the query. Each pod that reports has every metric. A JSON list of such
lists takes turns: each look, which is all that is asked as of one time, gets the next one. Without FILE it answers 503.
The real Prometheus is in tests/integration/prometheus.
"""

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from shift_operator.api.signals import SOURCES, TRAFFIC_SOURCES

SERIES = Path(sys.argv[1])
METRICS = sorted({*SOURCES.values(), *TRAFFIC_SOURCES.values()})
looks: list[str] = []


def answer(at: str) -> tuple[int, dict[str, Any]]:
    try:
        series = json.loads(SERIES.read_text())
    except FileNotFoundError:
        return 503, {"status": "error", "errorType": "unavailable", "error": "still replaying the WAL"}
    if at not in looks[-1:]:
        looks.append(at)
    if series and isinstance(series[0][0], list):
        series = series[len(looks) % len(series)]
    pods = [(m, value) for m, value in series if m["signal"] == "pods_reporting"]
    series += [[m | {"signal": "metric_pods", "__name__": name}, value] for m, value in pods for name in METRICS]
    now = time.time()
    result = [{"metric": m, "value": [now, str(now if value == "now" else value)]} for m, value in series]
    return 200, {"status": "success", "data": {"resultType": "vector", "result": result}}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        (at,) = parse_qs(urlsplit(self.path).query)["time"]
        status, body = answer(at)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_: object) -> None:
        """Says nothing."""


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
