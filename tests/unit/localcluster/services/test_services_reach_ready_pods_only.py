"""Which pods stand behind a Service, and where its next connection goes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from localcluster.services.balance import Balance
from localcluster.services.endpoints import Endpoint, Frontend, Pods, endpoints, frontends

PORT = {"port": 80, "targetPort": "http"}


def a_pod(ip: str = "127.10.0.1", *, ready: bool = True, port: int = 8000, **meta: Any) -> dict[str, Any]:
    return {
        "metadata": {"namespace": "prod", "name": ip, "labels": {"app": "chat", "v": "1"}, **meta},
        "spec": {"containers": [{"name": "c", "ports": [{"name": "http", "containerPort": port}]}]},
        "status": {"podIP": ip, "conditions": [{"type": "Ready", "status": str(ready)}]},
    }


def a_service(**spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"namespace": "prod", "name": "chat"},
        "spec": {"clusterIP": "127.110.0.9", "selector": {"app": "chat"}, "ports": [PORT], **spec},
    }


def behind(pod: dict[str, Any], **spec: Any) -> set[Endpoint]:
    return set(endpoints(a_service(**spec), PORT, Pods([pod])))


def test_a_ready_selected_pod_is_an_endpoint() -> None:
    assert behind(a_pod()) == {Endpoint("127.10.0.1", 8000)}


@pytest.mark.parametrize(
    "pod",
    [
        a_pod(ready=False),
        a_pod(deletionTimestamp="2026-11-24T11:00:00Z"),
        a_pod(labels={"app": "other"}),
        a_pod(namespace="other"),
        a_pod() | {"status": {"phase": "Pending"}},
    ],
    ids=["unready", "terminating", "other labels", "other namespace", "no address"],
)
def test_these_are_none(pod: dict[str, Any]) -> None:
    assert behind(pod) == set()


def test_every_label_of_the_selector_counts() -> None:
    assert behind(a_pod(), selector={"app": "chat", "v": "1"}) == {Endpoint("127.10.0.1", 8000)}
    assert behind(a_pod(), selector={"app": "chat", "v": "2"}) == set()
    assert behind(a_pod(), selector={}) == set()


def test_unready_pods_may_be_published() -> None:
    assert behind(a_pod(ready=False), publishNotReadyAddresses=True) == {Endpoint("127.10.0.1", 8000)}


def test_a_named_port_is_each_pod_s_own() -> None:
    found = endpoints(a_service(), PORT, Pods([a_pod("127.10.0.1", port=8000), a_pod("127.10.0.2", port=9000)]))
    assert found == {Endpoint("127.10.0.1", 8000), Endpoint("127.10.0.2", 9000)}


def test_only_tcp_ports_of_services_with_a_cluster_ip_are_listened_on() -> None:
    udp = {"port": 53, "protocol": "UDP"}
    assert frontends(a_service(ports=[PORT, udp])) == [(Frontend("127.110.0.9", 80), PORT)]
    assert frontends(a_service(clusterIP="None")) == []
    assert frontends(a_service(type="ExternalName")) == []


def test_a_service_without_selector_has_no_endpoints() -> None:
    assert behind(a_pod(), selector=None) == set()


ENDPOINTS = [Endpoint("127.10.0.1", port) for port in range(8000, 8004)]


@given(st.integers(1, 4), st.integers(0, 40))
def test_held_connections_are_spread_evenly(ready: int, connections: int) -> None:
    balance = Balance()
    balance.offer(ENDPOINTS[:ready])
    counts = Counter(balance.take() for _ in range(connections))
    assert not counts or max(counts.values()) - min(counts.get(one, 0) for one in ENDPOINTS[:ready]) <= 1


def test_equals_take_turns() -> None:
    balance = Balance()
    balance.offer(ENDPOINTS[:3])
    taken = []
    for _ in range(6):
        endpoint = balance.take()
        assert endpoint is not None
        balance.close(endpoint)
        taken.append(endpoint)
    assert taken == ENDPOINTS[:3] * 2


def test_the_least_loaded_comes_first() -> None:
    balance = Balance()
    balance.offer(ENDPOINTS[:2])
    first, second, third = balance.take(), balance.take(), balance.take()
    assert first == third
    assert second is not None
    balance.close(second)
    assert balance.take() == second


@given(st.lists(st.tuples(st.booleans(), st.sets(st.sampled_from(ENDPOINTS))), max_size=30))
def test_nothing_goes_to_an_endpoint_that_is_out_and_no_count_is_lost(steps: list[tuple[bool, set[Endpoint]]]) -> None:
    balance, held = Balance(), Counter[Endpoint]()
    for close, ready in steps:
        balance.offer(ready)
        taken = balance.take()
        assert (taken in ready) if ready else taken is None
        if taken:
            held[taken] += 1
        if close and held:
            endpoint = next(iter(held))
            balance.close(endpoint)
            held = held - Counter([endpoint])
        assert balance.open == held
