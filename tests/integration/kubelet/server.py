"""The containers of these tests: a small HTTP server on $POD_IP:8000 whose behaviour is set over HTTP.

GET /            its pod's name
GET /ready       200 or 503, as last set; /live likewise
GET /set?ready=0 sets one of them
GET /slow?n=5    n lines, one each 0.2 s
GET /env, /file?path=...
"""

from __future__ import annotations

import json
import os
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

STATE = {"ready": os.environ.get("READY", "1"), "live": "1"}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        name = url.path.strip("/")
        if name in STATE:
            self.answer(200 if STATE[name] == "1" else 503, "")
        elif name == "set":
            STATE.update(query)
            self.answer(200, "")
        elif name == "slow":
            self.send_response(200)
            self.end_headers()
            for at in range(int(query["n"])):
                self.wfile.write(f"{at}\n".encode())
                self.wfile.flush()
                time.sleep(0.2)
        elif name == "env":
            self.answer(200, json.dumps(dict(os.environ)))
        elif name == "file":
            with open(query["path"]) as file:
                self.answer(200, file.read())
        else:
            self.answer(200, os.environ["HOSTNAME"])

    def answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass


if __name__ == "__main__":
    print("serving", flush=True)
    ThreadingHTTPServer((os.environ["POD_IP"], 8000), Handler).serve_forever()
