"""A GPU belongs to one pod at a time; a pod address comes again only after all others."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from localcluster.kubelet.addresses import Addresses
from localcluster.kubelet.gpus import RESOURCE, GPUs, OutOfGPUs


def a_pod(uid: str, *gpus: int, init: tuple[int, ...] = ()) -> dict[str, Any]:
    def container(name: str, count: int) -> dict[str, Any]:
        return {"name": name, "resources": {"limits": {RESOURCE: str(count)}}}

    return {
        "metadata": {"uid": uid},
        "spec": {
            "containers": [container(f"c{at}", count) for at, count in enumerate(gpus)],
            "initContainers": [container(f"i{at}", count) for at, count in enumerate(init)],
        },
    }


def test_containers_get_their_own_devices() -> None:
    gpus = GPUs(8)
    assert gpus.assign(a_pod("a", 2, 1)) == {"c0": [0, 1], "c1": [2]}
    assert gpus.assign(a_pod("b", 4)) == {"c0": [3, 4, 5, 6]}
    gpus.release("a")
    assert gpus.free() == [0, 1, 2, 7]


def test_init_containers_share_with_those_that_follow() -> None:
    gpus = GPUs(4)
    assert gpus.assign(a_pod("a", 2, init=(4, 1))) == {"c0": [0, 1], "i0": [0, 1, 2, 3], "i1": [0]}
    assert gpus.free() == []


def test_too_many_are_refused_and_nothing_is_held() -> None:
    gpus = GPUs(4)
    with pytest.raises(OutOfGPUs, match="Requested: 5, Available: 4"):
        gpus.assign(a_pod("a", 5))
    assert gpus.free() == [0, 1, 2, 3]


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=30))
def test_no_device_is_held_twice(steps: list[tuple[int, bool]]) -> None:
    gpus = GPUs(6)
    held: dict[str, list[int]] = {}
    for at, (count, let_go) in enumerate(steps):
        if let_go and held:
            uid = next(iter(held))
            gpus.release(uid)
            del held[uid]
            continue
        try:
            held[str(at)] = gpus.assign(a_pod(str(at), count))["c0"]
        except OutOfGPUs:
            assert len(gpus.free()) < count
    everyone = [index for indices in held.values() for index in indices]
    assert len(everyone) == len(set(everyone))
    assert sorted(everyone + gpus.free()) == list(range(6))


def test_an_address_is_used_again_as_late_as_can_be() -> None:
    addresses = Addresses("127.10.0.0/29")
    first = addresses.lease("a")
    assert addresses.lease("a") == first == "127.10.0.1"
    addresses.give_back("a")
    later = [addresses.lease(f"b{at}") for at in range(7)]
    assert first == later[-1]
    with pytest.raises(OSError, match="all addresses are in use"):
        addresses.lease("c")


def test_addresses_of_an_earlier_kubelet_are_skipped() -> None:
    addresses = Addresses("127.10.0.0/16")
    addresses.skip("127.10.0.7")
    addresses.skip("10.0.0.1")
    assert addresses.lease("a") == "127.10.0.8"
