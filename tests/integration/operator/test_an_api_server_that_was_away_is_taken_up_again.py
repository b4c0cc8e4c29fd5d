"""The API server goes and comes back: the operator waits, then sees what it missed."""

import time
from collections.abc import Callable
from typing import Any

AWAY_SECONDS = 5


def test_what_changed_before_an_outage_is_repaired_after_it(
    cluster: Any, place: Any, operator: Any, a_deployment: Callable[..., dict[str, Any]]
) -> None:
    place.apply(a_deployment(replicas=0))
    place.eventually(place.has("Progressing", "True", "RolloutComplete"))
    process = cluster.process("kube-apiserver")
    process.stop(10)
    time.sleep(AWAY_SECONDS)
    cluster.restart("kube-apiserver")

    place.kubectl("delete", "service", "chat")
    place.eventually(lambda: place.find("service", "chat"))
    assert operator.process.poll() is None, "it waited, it did not die"
