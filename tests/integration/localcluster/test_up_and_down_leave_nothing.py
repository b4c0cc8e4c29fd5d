"""`up` waits until the cluster is ready, `down` (or a SIGKILL) leaves neither a process nor a listening port."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from localcluster import state

from .conftest import Run, eventually, listening_on, processes_of

NAMES = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "prometheus", "node-agent"]


def test_up_is_ready_when_it_returns_and_down_leaves_no_process_and_no_port(localcluster: Run, directory: Path) -> None:
    up = localcluster("up", "--dir", directory, "--node", "a:2", "--node", "b:4")
    assert up.returncode == 0, up.stderr
    assert [line.split()[0] for line in up.stdout.splitlines()] == [*NAMES, "up"]

    status = localcluster("status", "--dir", directory)
    assert status.returncode == 0, status.stdout
    assert [(line.split()[0], line.split()[-1]) for line in status.stdout.splitlines()[1:]] == [
        (name, "ready") for name in NAMES
    ]
    ports = [int(one.address.rpartition(":")[2]) for one in state.read(directory).components]
    assert all(map(listening_on, ports))

    assert localcluster("down", "--dir", directory).returncode == 0
    assert processes_of(directory) == []
    assert not any(map(listening_on, ports))
    again = localcluster("down", "--dir", directory)
    assert (again.returncode, again.stdout) == (0, f"no cluster is up in {directory}\n")


def test_up_twice_says_that_it_is_up_already_and_changes_nothing(localcluster: Run, directory: Path) -> None:
    assert localcluster("up", "--dir", directory, "--no-prometheus").returncode == 0
    before = state.read(directory)
    second = localcluster("up", "--dir", directory)
    assert second.returncode == 1
    assert "is up already" in second.stderr
    assert state.read(directory) == before
    assert localcluster("status", "--dir", directory).returncode == 0


def test_sigkill_of_the_supervisor_ends_everything_pods_too(localcluster: Run, directory: Path, tmp_path: Path) -> None:
    images = tmp_path / "images.yaml"
    images.write_text('images: {sleeper: {entrypoint: ["/bin/sh", "-c", "while :; do sleep 1; done"]}}\n')
    assert localcluster("up", "--dir", directory, "--images", images).returncode == 0
    seen = state.read(directory)
    kubectl = [directory / "bin" / "kubectl", "--kubeconfig", directory / "kubeconfig"]
    subprocess.run([*kubectl, "run", "one", "--image=sleeper", "--", f"{directory}/"], check=True, timeout=240)
    subprocess.run([*kubectl, "wait", "pod/one", "--for=condition=Ready", "--timeout=240s"], check=True, timeout=300)
    assert any("while :" in line for line in processes_of(directory))
    os.kill(seen.supervisor, signal.SIGKILL)
    eventually(lambda: processes_of(directory) == [], "processes outlived their supervisor")
    status = localcluster("status", "--dir", directory)
    assert status.returncode == 1
    assert "no cluster is up" in status.stderr
    assert localcluster("up", "--dir", directory).returncode == 0


def test_a_dead_component_is_seen_and_its_log_printed(localcluster: Run, directory: Path) -> None:
    assert localcluster("up", "--dir", directory, "--no-prometheus").returncode == 0
    scheduler = next(one for one in state.read(directory).components if one.name == "kube-scheduler")
    os.kill(scheduler.pid, signal.SIGKILL)
    eventually(
        lambda: (
            "kube-scheduler was killed by signal 9" in localcluster("logs", "supervisor", "--dir", directory).stdout
        ),
        "the supervisor did not notice",
    )
    status = localcluster("status", "--dir", directory)
    assert status.returncode == 1
    assert [line.split()[0] for line in status.stdout.splitlines() if line.endswith("died")] == ["kube-scheduler"]
    assert localcluster("logs", "kube-scheduler", "--dir", directory).stdout
    unknown = localcluster("logs", "kube-proxy", "--dir", directory)
    assert unknown.returncode == 1
    assert "there is etcd, kube-apiserver" in unknown.stderr


@pytest.fixture
def never_ready(tmp_path: Path) -> dict[str, str]:
    """An environment whose Prometheus never answers: a cluster is then still coming up, however slow the test is."""
    prometheus = tmp_path / "prometheus"
    prometheus.write_text("#!/bin/sh\nexec sleep 300\n")
    prometheus.chmod(0o755)
    return {**os.environ, "KUBEBUILDER_ASSETS": str(tmp_path)}


def test_a_cluster_that_nobody_waits_for_any_more_goes_down(directory: Path, never_ready: dict[str, str]) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "localcluster", "up", "--dir", str(directory)], stdout=subprocess.PIPE, env=never_ready
    ) as up:
        assert up.stdout is not None
        assert up.stdout.readline().startswith(b"etcd")
        up.kill()
    eventually(lambda: processes_of(directory) == [], "the cluster outlived the `up` that was killed")


def test_sigint_while_it_comes_up_takes_it_down_again(directory: Path, never_ready: dict[str, str]) -> None:
    """Also in a script's background job, which begins with SIGINT ignored."""
    with subprocess.Popen(
        [sys.executable, "-m", "localcluster", "up", "--dir", str(directory)],
        stdout=subprocess.PIPE,
        env=never_ready,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    ) as up:
        assert up.stdout is not None
        assert up.stdout.readline().startswith(b"etcd")
        up.send_signal(signal.SIGINT)
        up.communicate(timeout=240)
    assert up.returncode == 130
    assert processes_of(directory) == []


def test_the_foreground_ends_in_order_at_sigint(directory: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "localcluster", "up", "--foreground", "--no-prometheus", "--dir", str(directory)],
        stdout=subprocess.PIPE,
        text=True,
    ) as up:
        assert up.stdout is not None
        assert any(line.startswith("up in ") for line in up.stdout)
        assert len(processes_of(directory)) > 4
        up.send_signal(signal.SIGINT)
        up.communicate(timeout=240)
    assert up.returncode == 0
    assert processes_of(directory) == []
