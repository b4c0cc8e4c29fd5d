"""How long a replica takes to start, which forecasts reach over, is measured by the pods that are ready."""

from typing import Any

from shift_operator.control.scaling import PodsSeen
from shift_operator.controller.subjects import pods_seen

CREATED = "2026-11-24T11:00:00Z"
NOW = 1_795_518_000.0 + 3600  # an hour after CREATED


def a_pod(ready_after: int | None, **metadata: Any) -> dict[str, Any]:
    """Created at 11:00; ready so many seconds later, or not yet."""
    ready = {"type": "Ready", "status": "False"}
    if ready_after is not None:
        minutes, seconds = divmod(ready_after, 60)
        ready |= {"status": "True", "lastTransitionTime": f"2026-11-24T11:{minutes:02d}:{seconds:02d}Z"}
    return {
        "metadata": {"name": "chat-0", "creationTimestamp": CREATED} | metadata,
        "spec": {},
        "status": {"phase": "Running", "conditions": [ready]},
    }


def test_it_is_the_median_of_those_that_are_ready() -> None:
    seen = pods_seen([a_pod(90), a_pod(100), a_pod(1800), a_pod(None, creationTimestamp="2026-11-24T11:59:00Z")], NOW)
    assert seen == PodsSeen(ready=3, starting=1, start_seconds=100)


def test_where_none_is_ready_it_is_the_laws_own_guess() -> None:
    assert pods_seen([a_pod(None, creationTimestamp="2026-11-24T11:59:00Z")], NOW) == PodsSeen(ready=0, starting=1)
    assert pods_seen([], NOW) == PodsSeen(ready=0)


def test_a_pod_that_ends_is_not_on_its_way() -> None:
    ending = a_pod(None, deletionTimestamp="2026-11-24T11:59:30Z")
    assert pods_seen([a_pod(90), ending], NOW) == PodsSeen(ready=1, start_seconds=90)


def test_a_pod_that_waits_for_longer_than_three_starts_and_ten_minutes_is_late() -> None:
    assert pods_seen([a_pod(90), a_pod(None)], NOW) == PodsSeen(ready=1, late=1, start_seconds=90)
