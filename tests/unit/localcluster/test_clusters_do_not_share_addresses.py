"""Several clusters on one machine: networks and ports of their own, given back with the process."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys

import pytest
from localcluster.errors import NoNetwork
from localcluster.ports import claim_network

from localcluster import ports


def test_two_clusters_have_no_address_and_no_port_in_common() -> None:
    one, other = claim_network(), claim_network()
    try:
        assert one.pod_cidr != other.pod_cidr
        assert one.service_cidr != other.service_cidr
        assert {one.port() for _ in range(7)}.isdisjoint({other.port() for _ in range(7)})
    finally:
        one.close()
        other.close()


def test_pods_and_services_of_all_clusters_are_disjoint() -> None:
    indices = range(ports.FIRST_INDEX, ports.LAST_INDEX + 1)
    pods, services = {*indices}, {100 + index for index in indices}
    assert pods.isdisjoint(services)
    assert max(services) <= 254


def test_ports_lie_below_those_the_kernel_hands_out() -> None:
    assert ports.FIRST_PORT + ports.PORTS * (ports.LAST_INDEX + 1) <= 30_000  # NodePorts begin there, then the kernel's


def test_an_index_is_free_again_when_its_process_was_killed() -> None:
    claim = "from localcluster.ports import claim_network; n = claim_network(); print(n.index, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", claim], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        index = int(other.stdout.readline())
        other.kill()
    again = claim_network()
    again.close()
    assert again.index <= index


def test_a_taken_port_is_passed_over() -> None:
    network = claim_network()
    try:
        taken = network.port() + 1
        with socket.socket() as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):  # then somebody else has it, which is as good
                server.bind((ports.LOOPBACK, taken))
                server.listen()
            assert network.port() > taken
    finally:
        network.close()


def test_no_port_left_is_said() -> None:
    network = claim_network()
    try:
        with pytest.raises(NoNetwork, match=f"index {network.index}"):
            list(iter(network.port, None))
    finally:
        network.close()
