"""Prometheus's HTTP API with answers from a file: here it is tested what the operator does with them.

`canned_prometheus.py FILE` prints its port, then answers each query with the series in FILE, a JSON list of
[labels, value]; the value "now" is the time of the query. Without FILE it answers 503. The real Prometheus is in
tests/integration/prometheus.
"""

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

SERIES = Path(sys.argv[1])


def answer() -> tuple[int, dict[str, Any]]:
    try:
        series = json.loads(SERIES.read_text())
    except FileNotFoundError:
        return 503, {"status": "error", "errorType": "unavailable", "error": "still replaying the WAL"}
    now = time.time()
    result = [{"metric": m, "value": [now, str(now if value == "now" else value)]} for m, value in series]
    return 200, {"status": "success", "data": {"resultType": "vector", "result": result}}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status, body = answer()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_: object) -> None:
        """Says nothing."""


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
