"""The state of the laws as a status keeps it, and back: so that a restart of the operator changes nothing by itself.

Kept is since when something lasts. A status is written when that changes and not at every look, so it does not say
until when: who reads it back must know until when somebody looked. After a gap all that has to last begins anew, as in
`DeploymentState.at`. What has not lasted for `SHORT_SECONDS` is left out: it may come and go from look to look, each
time with a write, and a restart costs it no more than that. Of the stabilisation window its highest number is kept,
taken as wanted at the last look: going down then waits for at least as long as it would have.
"""

from dataclasses import replace
from datetime import UTC, datetime

from shift_operator.api.memory import BetterDegree, Memory, ReplicasMemory
from shift_operator.api.schedule import Degree
from shift_operator.api.signals import Instant
from shift_operator.control.degree import DegreeState
from shift_operator.control.inputs import DeploymentState
from shift_operator.control.scaling import ReplicaState
from shift_operator.control.stabilization import Recommendation, Window

SHORT_SECONDS = 30.0
"""Two looks at the chart's interval."""


def remembered(state: DeploymentState) -> Memory | None:
    """What a status keeps; None where nothing lasts."""
    looked_at = state.looked_at
    if looked_at is None:
        return None
    state = _lasting(state, looked_at - SHORT_SECONDS)
    memory = Memory(
        looked_time=_time(looked_at),
        threshold_unknown_since=_maybe_time(state.threshold_unknown_since),
        degree_unknown_since=_maybe_time(state.degree_unknown_since),
        better_degrees=tuple(
            BetterDegree(sequence=degree.sequence, tensor=degree.tensor, since=_time(at))
            for degree, at in state.degree.better_since
        ),
        replicas=_replicas(state.replicas),
    )
    empty = Memory(looked_time=memory.looked_time)
    return None if memory == empty else memory


def recalled(memory: Memory | None, watched_until: Instant | None) -> DeploymentState:
    """The state that a status kept. `watched_until`: when the process before this one is known to have looked last;
    None where that is not known, and it is the look in the memory itself."""
    if memory is None:
        return DeploymentState()
    looked_at = max(memory.looked_time.timestamp(), watched_until or 0.0)
    better = tuple(
        (Degree(sequence=known.sequence, tensor=known.tensor), known.since.timestamp())
        for known in memory.better_degrees
    )
    return DeploymentState(
        replicas=_replica_state(memory.replicas, looked_at),
        degree=DegreeState(better, looked_at if better else None),
        looked_at=looked_at,
        threshold_unknown_since=_maybe_instant(memory.threshold_unknown_since),
        degree_unknown_since=_maybe_instant(memory.degree_unknown_since),
    )


def _lasting(state: DeploymentState, latest: Instant) -> DeploymentState:
    """The state without what began after `latest`."""

    def since(at: Instant | None) -> Instant | None:
        return None if at is None or at > latest else at

    better = tuple((degree, at) for degree, at in state.degree.better_since if at <= latest)
    replicas = state.replicas and replace(
        state.replicas,
        unknown_since=since(state.replicas.unknown_since),
        idle_since=since(state.replicas.idle_since),
    )
    return replace(
        state,
        replicas=replicas,
        degree=replace(state.degree, better_since=better),
        threshold_unknown_since=since(state.threshold_unknown_since),
        degree_unknown_since=since(state.degree_unknown_since),
    )


def _replicas(state: ReplicaState | None) -> ReplicasMemory | None:
    if state is None or not state.window.recommendations:
        return None
    return ReplicasMemory(
        watched_since=_time(state.window.since),
        highest_wanted=state.window.highest(),
        unknown_since=_maybe_time(state.unknown_since),
        idle_since=_maybe_time(state.idle_since),
        raised_time=_maybe_time(state.raised_at),
        correction_percent=max(1, round(100 * state.correction)),
    )


def _replica_state(memory: ReplicasMemory | None, looked_at: Instant) -> ReplicaState | None:
    if memory is None:
        return None
    return ReplicaState(
        Window(memory.watched_since.timestamp(), (Recommendation(looked_at, memory.highest_wanted),)),
        unknown_since=_maybe_instant(memory.unknown_since),
        idle_since=_maybe_instant(memory.idle_since),
        raised_at=_maybe_instant(memory.raised_time),
        correction=memory.correction_percent / 100,
    )


def _time(instant: Instant) -> datetime:
    return datetime.fromtimestamp(instant, UTC)


def _maybe_time(instant: Instant | None) -> datetime | None:
    return None if instant is None else _time(instant)


def _maybe_instant(time: datetime | None) -> Instant | None:
    return None if time is None else time.timestamp()
