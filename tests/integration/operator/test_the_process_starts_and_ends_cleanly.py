"""The operator as a process: what it needs to start, what a restart changes, how it ends."""

import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml


def wait_for(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_restart_changes_nothing_and_sigterm_ends_cleanly(
    place: Any, a_deployment: Callable[..., dict[str, Any]], audit: Any, start: Any, installed: Path, prometheus: Any
) -> None:
    place.apply(a_deployment(shift={"mode": "Auto", "thresholdTokens": 300}))
    place.eventually(place.has("ConfigurationApplied", "True"))
    place.eventually(place.has("Progressing", "True", "RolloutComplete"))
    time.sleep(1)
    audit.mark()
    flags = ("--resync-seconds", "1", "--decision-interval-seconds", "1", "--prometheus-url", prometheus.url)
    second = start(installed, "--watch-namespaces", place.namespace, *flags)
    wait_for(second.ready)
    time.sleep(4)
    assert second.end() == 0
    assert second.lines()[-1]["message"] == "ended"
    assert [write for write in audit.writes() if f" {place.namespace}/" in write] == []


def test_without_permissions_it_ends_and_names_the_missing_one(cluster: Any, installed: Path, start: Any) -> None:
    cluster.kubectl("--namespace", "shift-system", "create", "serviceaccount", "nobody")
    token = cluster.kubectl("--namespace", "shift-system", "create", "token", "nobody")
    config = yaml.safe_load(installed.read_text())
    config["users"] = [{"name": user["name"], "user": {"token": token}} for user in config["users"]]
    kubeconfig = installed.with_name("nobody")
    kubeconfig.write_text(yaml.safe_dump(config))
    operator = start(kubeconfig)
    assert operator.process.wait(timeout=120) == 1
    last = operator.lines()[-1]
    assert last["message"] == "ended by an error"
    wanted = "Give the operator's ClusterRole the verb 'list' on 'shiftdeployments.shiftparallel.io'"
    assert last["error"].endswith(wanted)
    assert "exc_info" not in last


def test_bound_to_one_namespace_it_needs_no_right_elsewhere(
    cluster: Any, namespace: str, installed: Path, start: Any, helm_chart: Any
) -> None:
    values = ("--set", f"watchNamespaces={{{namespace}}}", "--set", "serviceAccount.name=bound")
    cluster.kubectl("apply", "-f", "-", stdin=helm_chart("bound", *values))
    kubeconfig = installed.with_name("bound")
    config = yaml.safe_load(installed.read_text())
    token = cluster.kubectl("--namespace", "shift-system", "create", "token", "bound")
    config["users"] = [{"name": user["name"], "user": {"token": token}} for user in config["users"]]
    kubeconfig.write_text(yaml.safe_dump(config))
    operator = start(kubeconfig, "--watch-namespaces", namespace)
    wait_for(operator.ready)
    time.sleep(2)  # a refused watch would end it
    assert operator.end() == 0
    assert {line["level"] for line in operator.lines()} == {"INFO"}


def test_an_api_server_that_is_not_there_yet_is_waited_for(tmp_path: Path, installed: Path, start: Any) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = free.getsockname()
    config = yaml.safe_load(installed.read_text())
    config["clusters"][0]["cluster"]["server"] = f"https://{address[0]}:{address[1]}"
    config["users"] = [{"name": user["name"], "user": {"token": "t"}} for user in config["users"]]
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    operator = start(tmp_path / "kubeconfig")
    wait_for(lambda: any(line["message"] == "cannot see the cluster" for line in operator.lines()))
    assert not operator.ready()
    assert operator.end() == 0


def test_a_port_that_is_taken_ends_it_with_the_port_in_the_error(installed: Path, start: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        operator = start(installed, "--port", str(taken.getsockname()[1]))
        assert operator.process.wait(timeout=120) == 1
    assert "address already in use" in operator.lines()[-1]["error"]
