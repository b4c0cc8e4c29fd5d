"""Deployments of one profile share steps where one has too few, and nothing else: what the TPOT teaches stays apart."""

from collections.abc import Callable

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shift_operator.api.schedule import Degree
from shift_operator.api.signals import DeploymentKey, Signals, SizeBucket
from shift_operator.control.decide import decide
from shift_operator.control.inputs import Deployment, Observed, PolicySettings, Profile, State
from shift_operator.control.scaling import PodsSeen, ReplicaBounds

from tests.unit.control.conftest import NOW
from tests.unit.control.replica_cases import SLO, traffic
from tests.unit.examples import examples

LOOKS = 6
POLICIES = {"one": PolicySettings()}
PROFILES = {"m": Profile(kv_capacity_tokens={Degree(sequence=2, tensor=1): 400_000.0})}
PACES = st.floats(0.3, 3.0)


def a_deployment(name: str) -> Deployment:
    return Deployment(
        key=DeploymentKey("prod", name),
        policy="one",
        profile="m",
        degree=Degree(sequence=2, tensor=1),
        threshold_tokens=512,
        replicas=3,
        pods=PodsSeen(ready=3),
        seen_gpus=6,
        slo=SLO,
        replica_bounds=ReplicaBounds(1, 12),
    )


@settings(max_examples=examples(30), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(PACES, min_size=LOOKS, max_size=LOOKS), st.lists(PACES, min_size=LOOKS, max_size=LOOKS))
def test_each_learns_and_decides_as_it_would_alone(
    signals_of: Callable[..., Signals], one: list[float], other: list[float]
) -> None:
    steps = signals_of([SizeBucket(7, 8, 900)], lambda n: 0.008 + 3e-5 * n, lambda n: 0.012 + 2e-5 * n)
    chat, batch = a_deployment("chat"), a_deployment("batch")
    together: State = {}
    alone: dict[DeploymentKey, State] = {chat.key: {}, batch.key: {}}
    for look, paces in enumerate(zip(one, other, strict=True)):
        now = NOW + 15 * look
        seen = {
            deployment.key: Observed(steps, traffic(at=now, finish_rate=5.0, tpot_seconds=0.02 * pace))
            for deployment, pace in zip((chat, batch), paces, strict=True)
        }
        made, together = decide(now, [chat, batch], seen, PROFILES, together, POLICIES)
        for deployment in (chat, batch):
            key = deployment.key
            own, alone[key] = decide(now, [deployment], {key: seen[key]}, PROFILES, alone[key], POLICIES)
            assert (made[key], together[key]) == (own[key], alone[key][key])


def test_one_that_is_slower_than_the_model_says_is_learned_of_and_the_other_stays(
    signals_of: Callable[..., Signals],
) -> None:
    """With one correction for both, each would be taken for half as slow as the one is."""
    steps = signals_of([SizeBucket(7, 8, 900)], lambda n: 0.02, lambda n: 0.02 + 1e-7 * n)
    chat, batch = a_deployment("chat"), a_deployment("batch")
    state: State = {}
    for look in range(100):
        now = NOW + 15 * look
        seen = {
            deployment.key: Observed(steps, traffic(at=now, finish_rate=5.0, tpot_seconds=seconds))
            for deployment, seconds in ((chat, 0.04), (batch, 0.02))
        }
        _, state = decide(now, [chat, batch], seen, PROFILES, state, POLICIES)
    corrections = [state[deployment.key].replicas for deployment in (chat, batch)]
    assert [round(found.correction, 1) for found in corrections if found] == [2.0, 1.0]
