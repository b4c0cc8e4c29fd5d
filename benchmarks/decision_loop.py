"""What one tick of the decision loop costs: CPU seconds for 10, 100 and 1,000 ShiftDeployments.

    .venv/control/bin/python benchmarks/decision_loop.py [--deployments 10 100 1000] [--ticks 5] [--write]

A tick is two queries, of which the answers are read, made signals and decided on. The answers are those of deployments
with 4 GPUs per replica that are busy in every knob: three measured degrees, steps enough to decide, an SLO, a policy
with a budget. They come from a process of this file over HTTP, so that reading costs what it costs. What Prometheus
needs to find the answers is not in these figures, and neither is what the controller does with the decisions. The
garbage collector is set as the operator sets it, and "a tick" has its turn in it. `--write` puts the table into
docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from multiprocessing.connection import Connection
from urllib.parse import unquote_plus

import page
from shift_operator.api.schedule import Degree
from shift_operator.api.signals import SOURCES, TRAFFIC_SOURCES, DeploymentKey, LatencyLimits
from shift_operator.control.budget import Budget
from shift_operator.control.decide import decide
from shift_operator.control.degree import DegreeBounds
from shift_operator.control.inputs import Deployment, Observed, PolicySettings, Profile, State
from shift_operator.control.performance import Slo
from shift_operator.control.scaling import PodsSeen, ReplicaBounds
from shift_operator.control.threshold import ThresholdBounds
from shift_operator.controller.garbage import collect_after_the_tick, collect_rarely
from shift_operator.prometheus.client import PrometheusClient
from shift_operator.prometheus.query import Part, cluster_query
from shift_operator.prometheus.signals import read_signals
from shift_operator.prometheus.traffic import read_traffic
from shift_operator.prometheus.traffic_query import TrafficPart, traffic_query

TP, SP, MIXED = (Degree(sequence=sequence, tensor=4 // sequence) for sequence in (1, 4, 2))
REPLICAS = 4
STEP_EDGES = (
    *(1, 2, 4, 8, 16, 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384),
    *(32768, 65536, 131072, "+Inf"),
)
CURVE_SIZES = (1, 8, 32, 128, 256, 512, 1024, 2048, 4096, 8192)
LIMITS = LatencyLimits(ttft_seconds=1.0, tpot_seconds=0.05)


def steps_answer(number: int, at: float) -> Iterator[tuple[dict[str, str], float]]:
    """The series that `cluster_query` gives of one deployment, with their values."""
    own = 1 + number / 10_000  # no two deployments have the same numbers
    for index, edge in enumerate(STEP_EDGES):
        yield {"signal": Part.STEP_SIZES, "le": str(edge)}, 40.0 * own * (index + 1)
    for degree, fixed, per_token in ((TP, 0.008, 30e-6), (SP, 0.025, 12e-6), (MIXED, 0.014, 18e-6)):
        labels = {"sequence": str(degree.sequence), "tensor": str(degree.tensor)}
        yield labels | {"signal": Part.STEPS}, 400.0
        for tokens in CURVE_SIZES:
            yield labels | {"signal": Part.STEP_TIME, "tokens": str(tokens)}, own * (fixed + per_token * tokens)
    yield {"signal": Part.MAX_BATCHED_TOKENS}, 8192.0
    yield {"signal": Part.MAX_SEQUENCES}, 256.0
    yield {"signal": Part.PODS_REPORTING}, float(REPLICAS)
    yield {"signal": Part.SAMPLED_AT}, at - 5
    for part in (Part.THRESHOLD_LOW, Part.THRESHOLD_HIGH):
        yield {"signal": part}, 512.0
    for part in (Part.GENERATION_LOW, Part.GENERATION_HIGH):
        yield {"signal": part}, 3.0
    yield {"signal": Part.RUNNING}, 120.0
    yield {"signal": Part.WAITING}, 0.0
    for metric in sorted(set(SOURCES.values())):
        yield {"signal": Part.METRIC_PODS, "__name__": metric}, float(REPLICAS)


def traffic_answer(number: int, at: float) -> Iterator[tuple[dict[str, str], float]]:
    """The same of `traffic_query`."""
    rate = 20.0 + number % 10
    for part, value in (
        (TrafficPart.FINISH_RATE, rate),
        (TrafficPart.IN_SYSTEM_SLOPE, 0.1),
        (TrafficPart.SPAN_MEAN, 30 * rate),
        (TrafficPart.SPAN_DEVIATION, 8 * rate),
        (TrafficPart.PROMPT_TOKENS, 1000.0),
        (TrafficPart.OUTPUT_TOKENS, 200.0),
        (TrafficPart.PREFIX_HIT_RATIO, 0.2),
        (TrafficPart.RUNNING, 120.0),
        (TrafficPart.WAITING, 0.0),
        (TrafficPart.KV_USAGE, 0.4),
        (TrafficPart.TPOT_SECONDS, 0.03),
        (TrafficPart.PODS_REPORTING, float(REPLICAS)),
        (TrafficPart.SAMPLED_AT, at - 5),
    ):
        yield {"signal": part}, value
    sizes = {"kv_cache_size_tokens": "400000", "num_gpu_blocks": "25000", "block_size": "16"}
    yield {"signal": TrafficPart.KV_CAPACITY} | sizes, 1.0
    for part, limit in ((TrafficPart.TTFT, LIMITS.ttft_seconds), (TrafficPart.TPOT, LIMITS.tpot_seconds)):
        for index, edge in enumerate((limit, "+Inf")):  # the edges that the query asks for
            yield {"signal": part, "le": str(edge)}, 100.0 * (index + 1)
    for metric in sorted(set(TRAFFIC_SOURCES.values())):
        yield {"signal": TrafficPart.METRIC_PODS, "__name__": metric}, float(REPLICAS)


def answers(deployments: int, at: float) -> dict[str, bytes]:
    """By a part's name that only one of the two queries has: the answer's body."""
    found = {}
    for mark, answer in ((Part.STEP_SIZES, steps_answer), (TrafficPart.FINISH_RATE, traffic_answer)):
        result = [
            {"metric": {"namespace": "prod", "deployment": name} | labels, "value": [at, repr(value)]}
            for number, name in enumerate(names(deployments))
            for labels, value in answer(number, at)
        ]
        body = {"status": "success", "data": {"resultType": "vector", "result": result}}
        found[str(mark)] = json.dumps(body, separators=(",", ":")).encode()
    return found


def names(deployments: int) -> list[str]:
    return [f"chat-{number:04d}" for number in range(deployments)]


def serve(bodies: dict[str, bytes], ready: Connection) -> None:
    """A Prometheus that has these two answers and no other."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            query = unquote_plus(self.path)
            body = next(body for mark, body in bodies.items() if f'"{mark}"' in query)
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    ready.send(server.server_port)
    server.serve_forever()


@contextmanager
def pretended_prometheus(bodies: dict[str, bytes]) -> Iterator[str]:
    """Its URL."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=serve, args=(bodies, there), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{here.recv()}"
    finally:
        process.terminate()
        process.join()


def deployments_as_seen(count: int) -> list[Deployment]:
    return [
        Deployment(
            key=DeploymentKey("prod", name),
            policy="default",
            profile=f"model-{number % 50}",
            degree=SP,
            threshold_tokens=512,
            replicas=REPLICAS,
            pods=PodsSeen(ready=REPLICAS),
            seen_gpus=4 * REPLICAS,
            slo=Slo(LIMITS.ttft_seconds, LIMITS.tpot_seconds),
            threshold_bounds=ThresholdBounds(SP, 16, 8192),
            degree_bounds=DegreeBounds((SP, MIXED), 16, 8192),
            replica_bounds=ReplicaBounds(1, 16),
        )
        for number, name in enumerate(names(count))
    ]


def measure(count: int, ticks: int) -> tuple[float, ...]:
    """MB of the answers; CPU seconds, medians over `ticks`: reading them, making signals of them, deciding, and all."""
    now = time.time()
    bodies = answers(count, now)
    deployments = deployments_as_seen(count)
    limits = {deployment.key: LIMITS for deployment in deployments}
    profiles = {f"model-{number}": Profile(kv_capacity_tokens={MIXED: 500_000.0}) for number in range(50)}
    policies = {"default": PolicySettings(budget=Budget(max_gpus=20 * count))}
    state: State = {}
    found: list[tuple[float, ...]] = []
    with pretended_prometheus(bodies) as url:
        client = PrometheusClient(url, timeout_seconds=60)
        for tick in range(ticks + 1):
            begun = time.process_time()
            with collect_after_the_tick():
                answer = client.query(cluster_query(), now)
                asked = time.process_time() - begun
                signals = read_signals(answer)
                asked_again = time.process_time()
                answer = client.query(traffic_query(limits=limits.values()), now)
                asked += time.process_time() - asked_again
                loads = read_traffic(answer, limits)
                del answer  # as the operator: no answer outlives its reading
                seen = {key: Observed(signals[key], loads[key]) for key in signals}
                read = time.process_time()
                decisions, state = decide(now + tick, deployments, seen, profiles, state, policies)
                decided = time.process_time()
            check(decisions.values(), count)  # costs nothing to speak of, and the collector may have its turn
            ended = time.process_time()
            if tick:  # the first one warms the caches
                found.append((asked, read - begun - asked, decided - read, ended - begun))
        client.close()
    size = sum(map(len, bodies.values())) / 1e6
    return size, *map(statistics.median, zip(*found, strict=True))


def check(decisions: object, count: int) -> None:
    """All knobs of all deployments were decided on known signals: else this would measure nothing."""
    made = list(decisions)  # type: ignore[call-overload]
    assert len(made) == count
    for one in made:
        for decision in (one.threshold, one.degree, one.replicas):
            assert decision.wanted is not None, decision


def table(counts: list[int], ticks: int) -> str:
    lines = [
        f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}, CPU seconds of the median of {ticks} ticks.",
        "",
        "| ShiftDeployments | answers, MB | query and JSON | signals | decide | a tick |",
        "|---|---|---|---|---|---|",
    ]
    for count in counts:
        size, *seconds = measure(count, ticks)
        lines.append(f"| {count:,} | {size:.1f} | " + " | ".join(f"{value:.3f} s" for value in seconds) + " |")
        print(lines[-1], flush=True)
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--deployments", type=int, nargs="+", default=[10, 100, 1000], metavar="N")
    parser.add_argument("--ticks", type=int, default=5, metavar="N")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    options = parser.parse_args()
    collect_rarely()
    written = table(options.deployments, options.ticks)
    page.show(__file__, written, write=options.write)


if __name__ == "__main__":
    main()
