"""An engine without a model: of docs/contract.md the operator needs its flags, its URLs and its schedule file.

With `--served-model-name broken` it ends as an engine that cannot load its model, with `big` it has memory for the
first of its degrees only, and with `fixed` for none but 4x1. `POST /requests/7` makes its metrics count 7 requests,
`POST /generation/9` makes it run generation 9, as if another operator had been there before. With
`--headless` it serves nothing.
"""

import argparse
import contextlib
import json
import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

parser = argparse.ArgumentParser()
parser.add_argument("command", choices=["serve"])
parser.add_argument("model")
parser.add_argument("--served-model-name")
parser.add_argument("--host")
parser.add_argument("--port", type=int)
parser.add_argument("--tensor-parallel-size", type=int)
parser.add_argument("--shift-degree", action="append")
parser.add_argument("--shift-schedule-file", type=Path)
parser.add_argument("--headless", action="store_true")
flags, _ = parser.parse_known_args()

if flags.served_model_name == "broken":
    Path(os.environ["SHIFT_TERMINATION_LOG"]).write_text(f"cannot load model {flags.model}: no such architecture")
    sys.exit(1)
if flags.served_model_name == "fixed" and flags.shift_degree[0] != "4x1":
    Path(os.environ["SHIFT_TERMINATION_LOG"]).write_text(f"no memory for degree {flags.shift_degree[0]}")
    sys.exit(1)
if flags.headless:
    signal.pause()

has = flags.shift_degree[:1] if flags.served_model_name in ("big", "fixed") else flags.shift_degree
FULL_TENSOR = f"1x{flags.tensor_parallel_size}"
runs: dict[str, Any] = {"generation": 0, "ranges": [{"sequence": 1, "tensor": flags.tensor_parallel_size}]}


def points(*seconds: float) -> list[dict[str, float]]:
    """Of steps of 1 and 512 tokens."""
    return [{"tokens": n, "seconds": s} for n, s in zip((1, 512), seconds, strict=True)]


def shift() -> dict[str, object]:
    """Reads the schedule file anew. One that names a degree which this engine lacks, or that is older than the one that
    runs, is refused: the old one stays."""
    global runs
    state, error = "Missing", None
    with contextlib.suppress(OSError):
        schedule = json.loads(flags.shift_schedule_file.read_text())
        degrees = {f"{part['sequence']}x{part['tensor']}" for part in schedule["ranges"]}
        lacks = sorted(degrees - {FULL_TENSOR, *has})
        state, error = "Applied", None
        if lacks:
            state, error = "Invalid", f"this engine has no degree {lacks[0]}"
        elif schedule["generation"] < runs["generation"]:
            state, error = "Invalid", f"generation: {schedule['generation']} is older than {runs['generation']}"
        else:
            runs = schedule
    sequence, tensor = map(int, flags.shift_degree[0].split("x"))
    return {
        "version": "0.1.0",
        "degree": {"sequence": sequence, "tensor": tensor},
        "degrees": [
            dict(zip(("sequence", "tensor"), map(int, degree.split("x")), strict=True))
            | {"state": "Loaded" if degree in {FULL_TENSOR, *has} else "NeedsRestart"}
            for degree in (FULL_TENSOR, *flags.shift_degree)
        ],
        "kvCacheTokens": 480_000,
        "memory": {"weightBytes": 16_000, "kvCacheBytes": 32_000},
        "calibration": {
            "state": "Done",
            "crossoverTokens": 384,
            "tookSeconds": 3.1,
            "curves": [
                {"sequence": 1, "tensor": flags.tensor_parallel_size, "points": points(0.0021, 0.0124)},
                {"sequence": sequence, "tensor": tensor, "points": points(0.0040, 0.0101)},
            ],
        },
        "gpus": flags.tensor_parallel_size,
        "maxBatchedTokens": 2048,
        "maxSequences": 256,
        "schedule": runs,
        "ranks": [{"rank": r, "generation": runs["generation"], "step": 1} for r in range(flags.tensor_parallel_size)],
        "file": {"state": state, "generation": runs["generation"], "error": error},
    }


requests = 0


def metrics() -> str:
    """As vLLM 0.32.0 writes them: running and waiting, here one of the requests runs."""
    running = min(requests, 1)
    return (
        f'vllm:num_requests_running{{engine="0",model_name="tiny"}} {running:.1f}\n'
        f'vllm:num_requests_waiting{{engine="0",model_name="tiny"}} {requests - running:.1f}\n'
    )


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        text = {"/shift": lambda: json.dumps(shift()), "/metrics": metrics}.get(self.path, str)()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(text.encode())

    def do_POST(self) -> None:
        global requests, runs
        what, _, number = self.path.removeprefix("/").partition("/")
        if what == "generation":
            runs = {**runs, "generation": int(number)}
        else:
            requests = int(number)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Says nothing: a probe each second would fill the log."""


ThreadingHTTPServer((flags.host, flags.port), Handler).serve_forever()
