"""Edits and reverts at any moment of a rollout, on the real controllers: never below replicas - maxUnavailable."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

ADeployment = Callable[..., dict[str, Any]]
REPLICAS, MAY_MISS = 3, 1

Spec = Callable[..., dict[str, Any]]


@pytest.fixture
def spec(a_deployment: ADeployment) -> Spec:
    """A deployment whose pods serve `name` at degree 2x1, or else at 1x2, replaced by `strategy`."""

    def build(name: str, strategy: str, threshold: int = 256, *, shifts: bool = True) -> dict[str, Any]:
        degree = {"sequence": 2, "tensor": 1} if shifts else {"sequence": 1, "tensor": 2}
        return a_deployment(
            replicas=REPLICAS,
            model={"uri": "file:///models/tiny", "name": name},
            parallelism={"gpusPerReplica": 2, "degree": degree},
            shift={"mode": "Fixed" if shifts else "TensorOnly", "thresholdTokens": threshold},
            rollout={"strategy": strategy, "maxUnavailable": MAY_MISS, "capacityDeadlineSeconds": 2},
        )

    return build


def of(place: Any, name: str) -> list[dict[str, Any]]:
    return [pod for pod in place.pods() if name in pod["spec"]["containers"][0]["args"]]


def serves(place: Any, name: str) -> bool:
    """Whether every replica is there, of this name and ready."""
    return (
        len(of(place, name)) == len(place.pods()) == REPLICAS and place.has("Progressing", "True", "RolloutComplete")()
    )


EDITS = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["one", "two", "broken"]),
        "strategy": st.sampled_from(["Auto", "Surge", "InPlace"]),
        "threshold": st.sampled_from([128, 256, 512]),
        "shifts": st.booleans(),
        "pause": st.floats(0.0, 4.0),
    }
)


@settings(
    max_examples=2,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(edits=st.lists(EDITS, min_size=5, max_size=7))
def test_no_sequence_of_edits_takes_more_replicas_than_allowed(
    place: Any, spec: Spec, edits: list[dict[str, Any]]
) -> None:
    place.apply(spec("zero", "Auto"))
    place.eventually(lambda: serves(place, "zero"))
    with place.watching() as seen:
        for edit in edits:
            place.apply(spec(edit["name"], edit["strategy"], edit["threshold"], shifts=edit["shifts"]))
            time.sleep(edit["pause"])
        place.apply(spec("last", "Auto"))
        place.eventually(lambda: serves(place, "last"))
    assert seen.fewest_ready >= REPLICAS - MAY_MISS
    assert seen.most_asked <= REPLICAS + 1
    place.eventually(place.has("ConfigurationApplied", "True"))


@pytest.mark.parametrize("strategy", ["Surge", "InPlace"])
def test_a_revert_at_each_step_of_a_rollout_takes_none_either(place: Any, spec: Spec, strategy: str) -> None:
    """A step is a replica more of the new revision, whose degree is another. After the last one no old pod is left."""
    place.apply(spec("old", strategy))
    place.eventually(lambda: serves(place, "old"))
    with place.watching() as seen:
        for step in range(1, REPLICAS + 1):
            place.apply(spec(f"new-{step}", strategy, shifts=False))
            place.eventually(lambda step=step: len(of(place, f"new-{step}")) >= step)
            place.apply(spec("old", strategy))
            place.eventually(lambda: serves(place, "old"))
    assert seen.fewest_ready >= REPLICAS - MAY_MISS
    assert seen.most_asked <= REPLICAS + 1
    place.eventually(place.has("ConfigurationApplied", "True"))
