"""One operator and many ShiftDeployments: how long they take to converge, what that costs, what nothing to do costs.

    .venv/control/bin/python benchmarks/operator_scale.py [--deployments 1000] [--idle-seconds 60] [--write]

Real: etcd, API server, controller-manager, scheduler, the operator as a process with the chart's permissions and Lease.
Pretended: nodes and pods, by kwok (its go.mod is in localcluster/tools/kwok; the first run builds it), which calls a
pod running without running anything; and the engines, by one process of this file that listens at every pod's address
and confirms the first generation of any schedule. All of them share the machine's cores with the operator, so the
figures are what one machine does with all of it, not what the operator could do alone.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import page
import yaml
from localcluster.errors import CommandFailed
from localcluster.progress import Silent

from localcluster import Cluster, binaries

REPOSITORY = Path(__file__).resolve().parents[1]
STAGES = REPOSITORY / "localcluster" / "tools" / "kwok" / "stages.yaml"
SYSTEM = "shift-operator"
NAMESPACE = "scale"
GPUS_PER_NODE, GPUS = 8, 2
PODS_PER_NODE = GPUS_PER_NODE // GPUS
POLL_SECONDS = 1.0


@dataclass
class Sample:
    """The operator's own metrics at a moment."""

    series: dict[str, float]
    at: float

    def total(self, name: str, **labels: str) -> float:
        """The sum of a metric's series with these label values, each a regular expression."""
        wanted = [re.compile(f'{key}="(?:{value})"') for key, value in labels.items()]
        return sum(
            value
            for series, value in self.series.items()
            if series.split("{")[0] == name and all(pattern.search(series) for pattern in wanted)
        )

    def quantile(self, name: str, share: float, before: Sample | None = None) -> str:
        """The bucket of a histogram in which this share of observations (since `before`) ends, as `<= s`."""
        found = []
        for series, value in self.series.items():
            if match := re.fullmatch(rf'{name}_bucket\{{le="([^"]+)"\}}', series):
                found.append((float(match[1]), value - (before.series.get(series, 0.0) if before else 0.0)))
        found.sort()
        if not found or not found[-1][1]:
            return "none"
        return next(f"<= {bound:g} s" for bound, count in found if count >= share * found[-1][1])


@dataclass
class Operator:
    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def sample(self) -> Sample:
        """Ends the benchmark with the operator's last words where the operator has ended, say by a lease lost."""
        if self.process.poll() is not None:
            raise SystemExit(f"the operator ended: {self.log.read_text().splitlines()[-1]}")
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return Sample({series: float(value) for series, value in pairs}, time.monotonic())


def writes(sample: Sample) -> float:
    """Writes of the operator but for those of its Lease."""
    verbs = "patch|create|update|delete"
    of_leases = sample.total("shift_operator_api_requests_total", verb=verbs, resource=r"leases\.coordination\.k8s\.io")
    return sample.total("shift_operator_api_requests_total", verb=verbs) - of_leases


def requests(sample: Sample) -> float:
    return sample.total("shift_operator_api_requests_total")


def rss_mib(sample: Sample) -> float:
    return sample.total("process_resident_memory_bytes") / 2**20


def peak_mib(one: Operator) -> float:
    """The most that the process ever had resident, by the kernel."""
    status = Path(f"/proc/{one.process.pid}/status").read_text()
    match = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    assert match is not None
    return int(match[1]) / 1024


def cpu_seconds(sample: Sample) -> float:
    return sample.total("process_cpu_seconds_total")


@contextmanager
def process(command: list[str], log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        running = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, **environment}, cwd=REPOSITORY
        )
    try:
        yield running
    finally:
        running.terminate()
        with suppress(subprocess.TimeoutExpired):
            running.wait(20)
        running.kill()
        running.wait()


@contextmanager
def operator(kubeconfig: Path, log: Path) -> Iterator[Operator]:
    command = [sys.executable, "-m", "shift_operator.controller", "--port=0", f"--lease={SYSTEM}/shift-operator"]
    with process(command, log, KUBECONFIG=str(kubeconfig)) as running:
        wait_for("the operator's start", lambda: '"started"' in log.read_text(), 60)
        started = next(json.loads(line) for line in log.read_text().splitlines() if '"started"' in line)
        yield Operator(running, started["port"], log)


def wait_for(what: str, holds: Callable[[], bool], seconds: float, every: float = POLL_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise SystemExit(f"{what}: not within {seconds:.0f} s")
        time.sleep(every)


def node(number: int) -> dict[str, object]:
    size = {"cpu": "64", "memory": "512Gi", "pods": "110", "nvidia.com/gpu": str(GPUS_PER_NODE)}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": f"kwok-{number}",
            "annotations": {"kwok.x-k8s.io/node": "fake"},
            "labels": {"kubernetes.io/hostname": f"kwok-{number}"},
        },
        "status": {"allocatable": size, "capacity": size},
    }


def deployment(number: int) -> dict[str, object]:
    return {
        "apiVersion": "shiftparallel.io/v1alpha1",
        "kind": "ShiftDeployment",
        "metadata": {"name": f"chat-{number}", "namespace": NAMESPACE},
        "spec": {
            "model": {"uri": "file:///models/tiny", "name": "tiny"},
            "engine": {"image": "example.com/engine:1"},
            "parallelism": {"gpusPerReplica": GPUS, "degree": {"sequence": GPUS, "tensor": 1}},
            "shift": {"mode": "Fixed", "thresholdTokens": 256},
        },
    }


def apply(cluster: Cluster, objects: list[dict[str, object]], *flags: str) -> None:
    """Creates objects, a few hundred per kubectl."""
    for first in range(0, len(objects), 250):
        items = {"apiVersion": "v1", "kind": "List", "items": objects[first : first + 250]}
        cluster.kubectl("create", *flags, "--filename", "-", stdin=json.dumps(items), seconds=600)


def converged(cluster: Cluster) -> int:
    """How many ShiftDeployments say that their rollout is complete and every rank confirmed the schedule."""
    jsonpath = '{range .items[*]}{range .status.conditions[*]}{.type}={.status}/{.reason} {end}{"\\n"}{end}'
    text = cluster.kubectl("-n", NAMESPACE, "get", "sd", "--output", f"jsonpath={jsonpath}", seconds=300)
    lines = text.splitlines()
    return sum("Progressing=True/RolloutComplete" in line and "ConfigurationApplied=True" in line for line in lines)


def kubeconfig_of_the_operator(cluster: Cluster, directory: Path) -> Path:
    (directory / "token").write_text(
        cluster.kubectl("--namespace", SYSTEM, "create", "token", "shift-operator", "--duration=4h")
    )
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    config["users"] = [{"name": user["name"], "user": {"tokenFile": "token"}} for user in config["users"]]
    path = directory / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return path


def measure(count: int, idle_seconds: float, directory: Path) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []

    def row(what: str, value: str) -> None:
        print(f"{what}: {value}", flush=True)
        rows.append((what, value))

    kwok = binaries.build(["kwok"], Silent())["kwok"]
    # kwok renews a node's lease after a quarter of its length; the node controller must not lose patience before.
    patience = {"kube-controller-manager": ["--node-monitor-grace-period=1h"]}
    with Cluster(directory / "cluster", prometheus=False, kubelet=False, audit=False, extra_flags=patience) as cluster:
        install(cluster)
        pods = cluster.network.pod_cidr
        with (
            process(
                [
                    str(kwok), f"--kubeconfig={cluster.kubeconfig}", "--manage-all-nodes=true", f"--cidr={pods}",
                    f"--config={STAGES}",
                    "--node-ip=127.0.0.1", "--node-lease-duration-seconds=200",
                ],
                directory / "kwok.log",
            ),
            process([sys.executable, __file__, "--engines", pods, str(count)], directory / "engines.log"),
        ):  # fmt: skip
            apply(cluster, [node(number) for number in range(-(-count // PODS_PER_NODE) + 1)])
            kubeconfig = kubeconfig_of_the_operator(cluster, directory)
            with operator(kubeconfig, directory / "operator.log") as one:
                leads = lambda: one.sample().total("shift_operator_leader") == 1  # noqa: E731
                wait_for("the lease", leads, 60)
                time.sleep(5)
                row("RSS without ShiftDeployments", f"{rss_mib(one.sample()):.0f} MiB")
                before = one.sample()
                apply(cluster, [deployment(number) for number in range(count)])
                created = time.monotonic()
                # Asking is dear: all ShiftDeployments go through the API server. So the operator is asked first.
                at_rest = lambda: one.sample().total("shift_operator_queue_depth") == 0  # noqa: E731
                wait_for("convergence", lambda: at_rest() and converged(cluster) == count, 60 + 3 * count, every=3.0)
                after = one.sample()
                load = os.getloadavg()[0]
                seconds = after.at - before.at
                reconciles = "shift_operator_reconcile_seconds"
                finished = after.total(f"{reconciles}_count") - before.total(f"{reconciles}_count")
                cpu = cpu_seconds(after) - cpu_seconds(before)
                row("create, by kubectl", f"{created - before.at:.0f} s")
                row("create to converged", f"{seconds:.0f} s")
                row("load average then", f"{load:.1f}")
                row("reconciles", f"{finished:.0f}")
                row("of them failed", f"{failures(after) - failures(before):.0f}")
                row("reconcile p50", after.quantile(reconciles, 0.5, before))
                row("reconcile p99", after.quantile(reconciles, 0.99, before))
                row("operator's requests per second", f"{(requests(after) - requests(before)) / seconds:.0f}")
                row("writes per ShiftDeployment", f"{(writes(after) - writes(before)) / count:.1f}")
                row("operator's CPU", f"{cpu:.1f} s")
                row("its CPU per ShiftDeployment", f"{1000 * cpu / count:.0f} ms")
                row("its CPU per reconcile, watches included", f"{1000 * cpu / finished:.1f} ms")
                row("RSS converged (peak)", f"{rss_mib(after):.0f} MiB ({peak_mib(one):.0f} MiB)")
                time.sleep(30)  # the last Events and echoes
                before = one.sample()
                time.sleep(idle_seconds)
                after = one.sample()
                row(f"writes in {idle_seconds:.0f} s with nothing to do", f"{writes(after) - writes(before):.0f}")
                row("CPU meanwhile", f"{cpu_seconds(after) - cpu_seconds(before):.1f} s")
            with operator(kubeconfig, directory / "operator-2.log") as two:
                started = time.monotonic()
                done = lambda: two.sample().total("shift_operator_reconciles_total") >= count  # noqa: E731
                wait_for("a new process's first look", done, 300 + count)
                row("a new process has looked at all", f"within {time.monotonic() - started:.0f} s of its start")
                time.sleep(5)
                row("and written", f"{writes(two.sample()):.0f} times")
                row("its RSS (peak)", f"{rss_mib(two.sample()):.0f} MiB ({peak_mib(two):.0f} MiB)")
    return rows


def failures(sample: Sample) -> float:
    return sample.total("shift_operator_reconciles_total", error="spec|internal")


def is_served(cluster: Cluster) -> bool:
    """Whether the API server knows the kind; a new CRD has no conditions yet for `kubectl wait` to look at."""
    try:
        cluster.kubectl("get", "shiftdeployments", "--all-namespaces")
    except CommandFailed:
        return False
    return True


def install(cluster: Cluster) -> None:
    cluster.kubectl("apply", "--server-side", "--filename", str(REPOSITORY / "crds"))
    wait_for("the CRD", lambda: is_served(cluster), 60)
    for namespace in (SYSTEM, NAMESPACE):
        cluster.kubectl("create", "namespace", namespace)
    chart = str(REPOSITORY / "charts" / "shift-operator")
    rbac = cluster.helm(
        "template", "shift-operator", chart, "--namespace", SYSTEM, "--show-only", "templates/rbac.yaml"
    )
    cluster.kubectl("apply", "--filename", "-", stdin=rbac)


async def pretend_engines(cidr: str, count: int) -> None:
    """Listens at port 8000 of the network's first addresses, enough for `count` pods, and confirms generation 1."""
    ranks = [{"rank": rank, "generation": 1, "step": 1} for rank in range(GPUS)]
    schedule = {"generation": 1, "ranges": [{"upToTokens": 256, "sequence": 1, "tensor": GPUS}]}
    file = {"state": "Applied", "generation": 1, "error": None}
    body = json.dumps(
        {"gpus": GPUS, "maxBatchedTokens": 2048, "schedule": schedule, "ranks": ranks, "file": file}
    ).encode()
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(answer)
                await writer.drain()
        writer.close()

    network = cidr.split(".")[:2]
    hosts = [f"{'.'.join(network)}.{at >> 8}.{at & 255}" for at in range(1, 2 * count + 300)]
    for host in hosts:
        await asyncio.start_server(serve, host, 8000)
    print(f"listening at {len(hosts)} addresses", flush=True)
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--deployments", type=int, default=1000, metavar="N")
    parser.add_argument("--idle-seconds", type=float, default=300.0, metavar="S")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    parser.add_argument("--engines", nargs=2, metavar=("CIDR", "N"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.engines:
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        asyncio.run(pretend_engines(options.engines[0], int(options.engines[1])))
        return
    with tempfile.TemporaryDirectory(prefix="operator-scale-") as directory:
        rows = measure(options.deployments, options.idle_seconds, Path(directory))
    page.show(__file__, page.of_pairs(f"{options.deployments:,} ShiftDeployments", rows), write=options.write)


if __name__ == "__main__":
    main()
