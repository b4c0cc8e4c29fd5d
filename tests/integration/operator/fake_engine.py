"""An engine without a model: of docs/contract.md the operator needs its flags, its URLs and its schedule file.

With `--served-model-name broken` it ends as an engine that cannot load its model.
"""

import argparse
import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("command", choices=["serve"])
parser.add_argument("model")
parser.add_argument("--served-model-name")
parser.add_argument("--host")
parser.add_argument("--port", type=int)
parser.add_argument("--tensor-parallel-size", type=int)
parser.add_argument("--shift-degree")
parser.add_argument("--shift-schedule-file", type=Path)
flags, _ = parser.parse_known_args()

if flags.served_model_name == "broken":
    Path(os.environ["SHIFT_TERMINATION_LOG"]).write_text(f"cannot load model {flags.model}: no such architecture")
    sys.exit(1)


def shift() -> dict[str, object]:
    try:
        schedule = json.loads(flags.shift_schedule_file.read_text())
    except OSError:
        schedule = {"generation": 0, "ranges": [{"sequence": 1, "tensor": flags.tensor_parallel_size}]}
    generation = schedule["generation"]
    return {
        "gpus": flags.tensor_parallel_size,
        "maxBatchedTokens": 2048,
        "schedule": schedule,
        "ranks": [{"rank": r, "generation": generation, "step": 1} for r in range(flags.tensor_parallel_size)],
        "file": {"state": "Applied" if generation else "Missing", "generation": generation, "error": None},
    }


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        text = json.dumps(shift()) if self.path == "/shift" else ""
        self.send_response(200)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        """Says nothing: a probe each second would fill the log."""


ThreadingHTTPServer((flags.host, flags.port), Handler).serve_forever()
