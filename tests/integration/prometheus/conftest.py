"""The real promtool and Prometheus, and engines whose metrics a test sets."""

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.request import urlopen

import pytest
import yaml
from localcluster.binaries import find
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

Rule = Callable[[Mapping[str, str], str, str, Mapping[str, float]], None]

BUCKETS = (1, 2, 4, 8, 16, 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192)


@pytest.fixture(scope="session")
def promtool() -> Path:
    """The promtool in PROMTOOL, else the local cluster's."""
    return Path(os.environ.get("PROMTOOL") or find(["promtool"])["promtool"])


@pytest.fixture
def evaluates(promtool: Path, tmp_path: Path) -> Rule:
    """`evaluates(series, promql, at, expected)`: what Prometheus's own engine makes of series scraped every 15 s.

    `series` maps a series to its values in promtool's notation (`_` is a failed scrape, `stale` its mark); `expected`
    maps each resulting series to its value.
    """

    def check(series: Mapping[str, str], promql: str, at: str, expected: Mapping[str, float]) -> None:
        case = {
            "expr": promql,
            "eval_time": at,
            "exp_samples": [{"labels": labels, "value": value} for labels, value in expected.items()],
        }
        test = {
            "interval": "15s",
            "input_series": [{"series": name, "values": values} for name, values in series.items()],
            "promql_expr_test": [case],
        }
        file = tmp_path / "test.yaml"
        # promtool loads the samples up to a whole evaluation interval, one minute unless told.
        file.write_text(yaml.safe_dump({"evaluation_interval": "15s", "fuzzy_compare": True, "tests": [test]}))
        command = [str(promtool), "test", "rules", str(file)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    return check


class Engine:
    """The metrics of one pod as the contract has them, exposed by the library that the engine uses."""

    def __init__(self, max_batched_tokens: int = 2048) -> None:
        self.registry = CollectorRegistry()
        degree = ("sequence", "tensor")

        def gauge(name: str, *labels: str) -> Gauge:
            return Gauge(name, name, labels, registry=self.registry)

        self.steps = Counter("shift_steps_total", "steps", degree, registry=self.registry)
        self.sizes = Histogram("shift_batched_tokens", "sizes", degree, registry=self.registry, buckets=BUCKETS)
        self.step_time = gauge("shift_step_time_seconds", *degree, "tokens")
        self.threshold = gauge("shift_threshold_tokens")
        self.generation = gauge("shift_schedule_generation")
        self.running = gauge("vllm:num_requests_running")
        self.waiting = gauge("vllm:num_requests_waiting")
        gauge("shift_max_batched_tokens").set(max_batched_tokens)
        gauge("shift_max_sequences").set(256)
        self.threshold.set(512)
        self.generation.set(1)
        self.answers = True
        for tokens in (1, 64, 1024):
            self.step_time.labels("1", "2", str(tokens)).set(0.004 + 10e-6 * tokens)
            self.step_time.labels("2", "1", str(tokens)).set(0.008 + 5e-6 * tokens)
        # Ready to count: a series that first shows up with its first step has lost it, as increase needs two samples.
        self.run(0, 1, 2, tokens=1)
        self.run(0, 2, 1, tokens=1)

    def text(self) -> bytes:
        """What GET /metrics answers."""
        return generate_latest(self.registry)

    def run(self, steps: int, sequence: int, tensor: int, *, tokens: int) -> None:
        """Runs this many steps of `tokens` tokens at a degree."""
        self.steps.labels(str(sequence), str(tensor)).inc(steps)
        sizes = self.sizes.labels(str(sequence), str(tensor))
        for _ in range(steps):
            sizes.observe(tokens)


class Recorded:
    """A real engine's metrics, of those that the queries read, before its first request and after its sixth.

    `engine_idle.txt` and `engine_busy.txt` are from vLLM 0.32.0 with the shift engine on CPU; tests/engine holds their
    names and labels against the engine of today.
    """

    def __init__(self) -> None:
        self.answers = True
        self.is_busy = False

    def text(self) -> bytes:
        """What GET /metrics answered."""
        return Path(__file__).with_name("engine_busy.txt" if self.is_busy else "engine_idle.txt").read_bytes()


@dataclass
class Scraped:
    """A Prometheus that scrapes `engines`, by (namespace, deployment, pod), every second."""

    url: str
    engines: Mapping[tuple[str, str, str], Engine | Recorded]


@pytest.fixture
def scrape(tmp_path: Path) -> Iterator[Callable[[Mapping[tuple[str, str, str], Engine | Recorded]], Scraped]]:
    """`scrape(engines)` starts a real Prometheus on them, with the labels that relabelling sets in a cluster."""
    ends: list[Callable[[], object]] = []

    def start(engines: Mapping[tuple[str, str, str], Engine | Recorded]) -> Scraped:
        by_path = {f"/{number}": engine for number, engine in enumerate(engines.values())}

        class Exporter(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                engine = by_path[self.path]
                self.send_response(200 if engine.answers else 503)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.end_headers()
                self.wfile.write(engine.text())

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Exporter)
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        ends.append(server.server_close)
        ends.append(server.shutdown)
        configs = [
            {
                "targets": [f"127.0.0.1:{server.server_port}"],
                "labels": {"namespace": namespace, "deployment": deployment, "pod": pod, "__metrics_path__": path},
            }
            for path, (namespace, deployment, pod) in zip(by_path, engines, strict=True)
        ]
        job: dict[str, Any] = {"job_name": "engines", "scrape_interval": "1s", "static_configs": configs}
        (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump({"scrape_configs": [job]}))
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        command = [
            str(find(["prometheus"])["prometheus"]),
            f"--config.file={tmp_path / 'prometheus.yaml'}",
            f"--storage.tsdb.path={tmp_path / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        with (tmp_path / "prometheus.log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        ends.append(lambda: process.wait(20))
        ends.append(process.terminate)
        url = f"http://127.0.0.1:{port}"
        _wait_until_ready(url, process, tmp_path / "prometheus.log")
        return Scraped(url, engines)

    yield start
    for end in reversed(ends):
        end()


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()[-2000:]
        try:
            with urlopen(f"{url}/-/ready", timeout=60):
                return
        except OSError:
            time.sleep(0.1)
    pytest.fail(f"Prometheus was not ready within 60 s:\n{log.read_text()[-2000:]}")
