"""What the decision loop's two queries cost Prometheus: its own CPU for 10, 100 and 1,000 ShiftDeployments.

    .venv/control/bin/python benchmarks/prometheus_queries.py [--deployments 10 100 1000] [--rounds 3] [--write]

The real Prometheus scrapes four exporters of this file. Together they show, for four pods of each ShiftDeployment, what
the queries read of a busy engine, as a real one exposed it (tests/integration/prometheus/engine_busy.txt). Scrapes
carry times that lie 15 s apart, so that six minutes of samples, as far as the queries look back, come in one or two.
Then the exporters fall silent and the queries are asked one after the other. CPU is that of Prometheus's process while
it answers, and includes its garbage collector. `--write` puts the table into docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import page
import yaml
from localcluster.binaries import find
from shift_operator.api.signals import LatencyLimits
from shift_operator.prometheus.client import PrometheusClient
from shift_operator.prometheus.query import cluster_query
from shift_operator.prometheus.traffic_query import traffic_query

ENGINE = Path(__file__).resolve().parents[1] / "tests/integration/prometheus/engine_busy.txt"
PODS = 4
SCRAPES, STEP_SECONDS = 26, 15
EXPORTERS = 4
LIMITS = (LatencyLimits(ttft_seconds=1.0, tpot_seconds=0.05), LatencyLimits(ttft_seconds=2.5, tpot_seconds=0.1))
PATIENCE_SECONDS = 900.0
COUNTERS = re.compile(r"_(bucket|count|sum|total)$")


@dataclass(frozen=True)
class Line:
    """A series of the engine: its name, its labels as written, its value, and whether that grows."""

    name: str
    labels: str
    value: float
    counts: bool


def engine_lines() -> list[Line]:
    """What one busy engine exposed."""
    found = []
    for text in ENGINE.read_text().splitlines():
        if text.startswith("#"):
            continue
        series, _, value = text.rpartition(" ")
        name, _, labels = series.partition("{")
        found.append(Line(name, labels.rstrip("}"), float(value), bool(COUNTERS.search(name))))
    return found


class Exporter(ThreadingHTTPServer):
    """Some of the ShiftDeployments. Each scrape is 15 s after the one before, up to the last; then there is nothing."""

    daemon_threads = True

    def __init__(self, deployments: Sequence[str], begin: float) -> None:
        self._begin = begin
        self.scraped = 0
        self._series = [
            (f'{line.name}{{namespace="prod",deployment="{name}",pod="{name}-{pod}",{line.labels}}} ', line)
            for line in engine_lines()
            for name in deployments
            for pod in range(PODS)
        ]
        super().__init__(("127.0.0.1", 0), _Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def series(self) -> int:
        return len(self._series)

    def page(self) -> bytes:
        """The next scrape."""
        if self.scraped >= SCRAPES:
            return b""
        milliseconds = int(1000 * (self._begin + self.scraped * STEP_SECONDS))
        self.scraped += 1
        # In the window of two minutes a counter grows by about half of what the engine had counted.
        grown = 1 + self.scraped / 16
        return "".join(
            f"{series}{line.value * grown if line.counts else line.value:g} {milliseconds}\n"
            for series, line in self._series
        ).encode()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        assert isinstance(self.server, Exporter)
        body = self.server.page()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def prometheus(exporters: Sequence[Exporter], interval_seconds: float) -> Iterator[tuple[int, str]]:
    """Its process id and its URL."""
    with tempfile.TemporaryDirectory() as directory:
        scraping = {
            "job_name": "engines",
            "honor_labels": True,
            "static_configs": [{"targets": [f"127.0.0.1:{exporter.server_port}" for exporter in exporters]}],
        }
        interval = f"{interval_seconds:g}s"
        config = Path(directory) / "prometheus.yaml"
        config.write_text(
            yaml.safe_dump(
                {"global": {"scrape_interval": interval, "scrape_timeout": interval}, "scrape_configs": [scraping]}
            )
        )
        with _free_port() as port:
            address = f"127.0.0.1:{port}"
        command = [
            str(find(["prometheus"])["prometheus"]),
            f"--config.file={config}",
            f"--storage.tsdb.path={directory}/data",
            f"--web.listen-address={address}",
            "--log.level=error",
        ]
        with subprocess.Popen(command) as process:
            try:
                yield process.pid, f"http://{address}"
            finally:
                process.terminate()


@contextmanager
def _free_port() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    try:
        yield server.server_port
    finally:
        server.server_close()


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_megabytes(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) / 1024  # type: ignore[index]


def measure(count: int, rounds: int) -> list[str]:
    """The cells of a row."""
    names = [f"chat-{number:04d}" for number in range(count)]
    begin = time.time() - SCRAPES * STEP_SECONDS
    exporters = [Exporter(names[part::EXPORTERS], begin) for part in range(EXPORTERS)]
    interval = max(1.0, count / 100)  # a scrape of all has to be done by then, on two cores
    with prometheus(exporters, interval) as (pid, url):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while any(exporter.scraped < SCRAPES for exporter in exporters):
            if time.monotonic() > deadline:
                sys.exit(f"only {[exporter.scraped for exporter in exporters]} of {SCRAPES} scrapes in time")
            time.sleep(1)
        time.sleep(2 * interval)  # the last one is taken in
        at = begin + (SCRAPES - 1) * STEP_SECONDS + 1
        client = PrometheusClient(url, timeout_seconds=120)
        found = [
            [_asked(client, pid, query, at) for _ in range(rounds + 1)][1:]  # the first warms caches
            for query in (cluster_query(), traffic_query(limits=LIMITS))
        ]
        client.close()
        memory = resident_megabytes(pid)
    for exporter in exporters:
        exporter.shutdown()
    steps, traffic = ([statistics.median(column) for column in zip(*each, strict=True)] for each in found)
    per_tick = steps[0] + traffic[0]
    return [
        f"{count:,}",
        f"{sum(exporter.series for exporter in exporters):,}",
        f"{steps[0]:.2f} s ({steps[1]:.1f} s)",
        f"{traffic[0]:.2f} s ({traffic[1]:.1f} s)",
        f"{100 * per_tick / STEP_SECONDS:.0f} %",
        f"{steps[2] + traffic[2]:,.0f}",
        f"{memory:,.0f} MB",
    ]


def _asked(client: PrometheusClient, pid: int, query: str, at: float) -> tuple[float, float, float]:
    """CPU seconds of Prometheus, seconds until the answer was read, series in it."""
    cpu, begun = cpu_seconds(pid), time.monotonic()
    samples = len(client.query(query, at).samples)
    return cpu_seconds(pid) - cpu, time.monotonic() - begun, samples


def table(counts: Sequence[int], rounds: int) -> str:
    lines = [
        f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}; medians of {rounds}.",
        "",
        "| ShiftDeployments | series read | steps: CPU (answer after) | traffic: CPU (answer after) "
        "| of a core at 15 s | series in the answers | RSS |",
        "|---|---|---|---|---|---|---|",
    ]
    for count in counts:
        lines.append("| " + " | ".join(measure(count, rounds)) + " |")
        print(lines[-1], flush=True)
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--deployments", type=int, nargs="+", default=[10, 100, 1000], metavar="N")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    options = parser.parse_args()
    written = table(options.deployments, options.rounds)
    page.show(__file__, written, write=options.write)


if __name__ == "__main__":
    main()
