"""A leader is killed by SIGKILL: how long until the operator that stood by has written what was asked meanwhile.

    .venv/control/bin/python benchmarks/operator_takeover.py [--deployments 100] [--kills 10] [--write]

Real: etcd, API server, controller-manager, the operators as processes with the chart's permissions and Lease. The
ShiftDeployments have no replicas, so there are no pods. At each kill one of them gets another threshold; the clock
stops when its ConfigMap has it. After each kill a new process takes the place of the killed one and stands by.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import page
from operator_scale import (
    NAMESPACE,
    Operator,
    apply,
    deployment,
    install,
    kubeconfig_of_the_operator,
    operator,
    rss_mib,
    wait_for,
)

from localcluster import Cluster

POLL_SECONDS = 0.1
PATIENCE_SECONDS = 120.0


def leads(one: Operator) -> bool:
    return one.sample().total("shift_operator_leader") == 1


def threshold(cluster: Cluster, name: str) -> int | None:
    """As the ConfigMap has it; None while there is none."""
    text = cluster.kubectl("-n", NAMESPACE, "get", "configmap", f"{name}-schedule", "-o", "json", "--ignore-not-found")
    if not text:
        return None
    ranges = json.loads(json.loads(text)["data"]["schedule.json"])["ranges"]
    return int(ranges[0]["upToTokens"])


def ask(cluster: Cluster, name: str, tokens: int) -> None:
    patch = {"spec": {"shift": {"mode": "Fixed", "thresholdTokens": tokens}}}
    cluster.kubectl("-n", NAMESPACE, "patch", "sd", name, "--type=merge", "--patch", json.dumps(patch))


def measure(count: int, kills: int, directory: Path) -> list[tuple[str, str]]:
    to_lead: list[float] = []
    to_written: list[float] = []
    with Cluster(directory / "cluster", prometheus=False, kubelet=False, audit=False) as cluster, ExitStack() as stack:
        install(cluster)
        kubeconfig = kubeconfig_of_the_operator(cluster, directory)

        def another(number: int) -> Operator:
            return stack.enter_context(operator(kubeconfig, directory / f"operator-{number}.log"))

        leader = another(0)
        wait_for("the lease", lambda: leads(leader), PATIENCE_SECONDS)
        items = [deployment(number) for number in range(count)]
        for item in items:
            item["spec"]["replicas"] = 0  # type: ignore[index]
        apply(cluster, items)
        last = f"chat-{count - 1}"
        wait_for("the children", lambda: threshold(cluster, last) is not None, PATIENCE_SECONDS + count)
        standby = another(1)
        for kill in range(kills):
            time.sleep(15)  # what begins and what stands by is at rest
            assert leads(leader)
            assert not leads(standby)
            tokens = 300 + kill
            leader.process.kill()
            killed = time.monotonic()
            ask(cluster, "chat-0", tokens)
            led = 0.0
            while threshold(cluster, "chat-0") != tokens:
                led = led or (time.monotonic() if leads(standby) else 0.0)
                if time.monotonic() - killed > PATIENCE_SECONDS:
                    raise SystemExit(f"kill {kill}: nobody followed within {PATIENCE_SECONDS:.0f} s")
                time.sleep(POLL_SECONDS)
            written = time.monotonic()
            to_lead.append((led or written) - killed)
            to_written.append(written - killed)
            print(f"kill {kill}: leads after {to_lead[-1]:.1f} s, written after {to_written[-1]:.1f} s", flush=True)
            leader, standby = standby, another(kill + 2)
        resident = rss_mib(standby.sample())
    return [
        ("kills", str(kills)),
        ("kill to the follower's lease, median (longest)", spread(to_lead)),
        ("kill to the change written, median (longest)", spread(to_written)),
        ("RSS of the operator that stands by", f"{resident:.0f} MiB"),
        ("load average at the end", f"{os.getloadavg()[0]:.1f}"),
    ]


def spread(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.1f} s ({max(seconds):.1f} s)"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--deployments", type=int, default=100, metavar="N")
    parser.add_argument("--kills", type=int, default=10, metavar="N")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="operator-takeover-") as directory:
        rows = measure(options.deployments, options.kills, Path(directory))
    page.show(__file__, page.of_pairs(f"{options.deployments:,} ShiftDeployments", rows), write=options.write)


if __name__ == "__main__":
    main()
