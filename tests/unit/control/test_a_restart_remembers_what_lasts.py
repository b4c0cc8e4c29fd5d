"""The state that a status keeps: what comes back from it, and what of it counts when nobody looked for a while."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from shift_operator.api.memory import Memory
from shift_operator.api.schedule import Degree
from shift_operator.api.signals import DeploymentKey, UnknownWhy, nothing_known
from shift_operator.control.decide import decide
from shift_operator.control.degree import DegreeState
from shift_operator.control.inputs import Deployment, DeploymentState, Observed
from shift_operator.control.memory import recalled, remembered
from shift_operator.control.reasons import ReplicasReason
from shift_operator.control.scaling import PodsSeen, ReplicaBounds, ReplicaState
from shift_operator.control.stabilization import Recommendation, Window

from tests.unit.control.replica_cases import NOW, SLO, idle

instants = st.integers(int(NOW) - 100_000, int(NOW)).map(float)
maybe = st.none() | instants
degrees = st.sampled_from([Degree(sequence=4, tensor=1), Degree(sequence=2, tensor=2)])
windows = st.builds(
    lambda since, replicas: Window(since, tuple(Recommendation(NOW - n, r) for n, r in enumerate(replicas))),
    instants,
    st.lists(st.integers(0, 1000), min_size=1, max_size=5),
)
replica_states = st.builds(
    ReplicaState,
    window=windows,
    unknown_since=maybe,
    idle_since=maybe,
    raised_at=maybe,
    correction=st.integers(30, 300).map(lambda percent: percent / 100),
)
states = st.builds(
    DeploymentState,
    replicas=st.none() | replica_states,
    degree=st.builds(DegreeState, better_since=st.lists(st.tuples(degrees, instants), max_size=1).map(tuple)),
    looked_at=st.just(NOW),
    threshold_unknown_since=maybe,
    degree_unknown_since=maybe,
)


@given(state=states)
def test_all_that_lasts_comes_back(state: DeploymentState) -> None:
    memory = remembered(state)
    again = recalled(memory and Memory.from_body(memory.to_body()), NOW)
    assert remembered(again) == memory
    if state.replicas is not None:
        assert again.replicas is not None
        assert again.replicas.window.highest() == state.replicas.window.highest()
        assert again.replicas.window.recommendations[-1].at == NOW, "it counts as wanted until the last look"


@given(state=states)
def test_without_a_witness_what_has_to_last_begins_anew(state: DeploymentState) -> None:
    """Nobody knows until when the process before this one looked: the status may be hours old."""
    again = recalled(remembered(state), None).at(NOW + 3600, gap_seconds=120)
    assert again.threshold_unknown_since is again.degree_unknown_since is None
    assert again.degree.better_since == ()
    if again.replicas is not None:
        assert again.replicas.window.since == NOW + 3600
        assert again.replicas.idle_since is again.replicas.unknown_since is None


def test_nothing_that_lasts_needs_no_memory() -> None:
    assert remembered(DeploymentState(looked_at=NOW)) is None
    assert recalled(None, NOW) == DeploymentState()


def test_looks_that_change_nothing_that_lasts_are_no_news() -> None:
    state = DeploymentState(ReplicaState(Window(NOW - 600, (Recommendation(NOW, 3),))), looked_at=NOW)
    assert state.replicas is not None
    later = replace(
        state,
        looked_at=NOW + 15,
        replicas=replace(state.replicas, window=state.replicas.window.with_one_more(NOW + 15, 3, 300), correction=1.2),
    )
    before, after = remembered(state), remembered(later)
    assert before is not None
    assert after is not None
    assert before != after
    assert before.what_lasts() == after.what_lasts()


def test_what_has_not_lasted_for_two_looks_is_left_out() -> None:
    """It would be written when it comes and when it goes, at every other look."""
    better = ((Degree(sequence=2, tensor=2), NOW - 29), (Degree(sequence=4, tensor=1), NOW - 31))
    window = Window(NOW - 600, (Recommendation(NOW, 3),))
    young = DeploymentState(
        ReplicaState(window, unknown_since=NOW - 29, idle_since=NOW),
        DegreeState(better, NOW),
        looked_at=NOW,
        threshold_unknown_since=NOW - 29,
        degree_unknown_since=NOW - 31,
    )
    memory = remembered(young)
    assert memory is not None
    assert memory.replicas is not None
    assert memory.threshold_unknown_since is memory.replicas.unknown_since is memory.replicas.idle_since is None
    assert memory.degree_unknown_since is not None
    assert [known.sequence for known in memory.better_degrees] == [4]


def replicas_after_a_restart(*, watched_until: float | None) -> ReplicasReason:
    """3 replicas without any request, for longer than the window: the next look of the same process would go down."""
    chat = Deployment(
        key=DeploymentKey("prod", "chat"),
        policy=None,
        profile=None,
        degree=Degree(sequence=2, tensor=1),
        threshold_tokens=512,
        replicas=3,
        pods=PodsSeen(ready=3),
        seen_gpus=6,
        slo=SLO,
        replica_bounds=ReplicaBounds(1, 20),
    )
    seen = {chat.key: Observed(nothing_known(UnknownWhy.ABSENT, ""), idle())}
    state = DeploymentState(ReplicaState(Window(NOW - 3600, (Recommendation(NOW - 3600, 3),))), looked_at=NOW - 15)
    memory = remembered(replace(state, looked_at=NOW - 3600))
    decisions, _ = decide(NOW, [chat], seen, {}, {chat.key: recalled(memory, watched_until)}, {})
    made = decisions[chat.key].replicas
    assert made is not None
    assert made.after == 3
    return made.reason


def test_a_restart_takes_nothing_away_at_once() -> None:
    assert replicas_after_a_restart(watched_until=NOW - 20) is ReplicasReason.STABILIZING
    assert replicas_after_a_restart(watched_until=None) is ReplicasReason.STABILIZING
