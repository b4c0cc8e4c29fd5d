"""The replicas law: the fewest replicas that keep the SLO at the predicted demand.

    replicas = ceil( (1 + headroom) * arrivals / capacity  +  waiting / (capacity * drain time) )

`capacity` is the rate at which one replica keeps the SLO on the present mix of requests (performance.py), `arrivals`
the higher of what arrives now and what is forecast for the moment at which a replica asked for now can serve
(demand.py). A queue asks for replicas in the tick that sees it, but only while none is on its way: those were asked
for this very queue. A pod that is late, or that no node takes, is not on its way: for late ones, a bad node's most of
all, one replica stands in, and one only, since several late pods are a bad image and not a bad node. Three
measurements ask for more without any model: a queue in front of a full KV cache, a queue as long as the batch where
there is no model, and an SLO that is missed where the model says it is kept.

Going down asks for more proof than going up, since the cost of an error is an outage on one side, and some minutes of
a GPU on the other:
- no recommendation of the stabilisation window is higher (stabilization.py);
- the N/(N-1) test, by two signals that do not depend on each other: the model, with a larger headroom, and what is
  measured: no queue, the SLO kept, and the KV cache with room for the load of the replicas to go.
As many go at once as pass both. Pods that start count as supply for going up, and not for going down, where only
ready ones count.

Unknown holds: with any needed signal missing, stale or partial nothing goes down, and up only on what is known. The
user's bounds need no signal.

Worked example (the numbers of tests/unit/control/test_replicas_worked_example.py). A replica keeps the SLO up to
2 requests per second; 5 arrive, none wait, 3 replicas: 1.1 * 5 / 2 = 2.75, so 3 stay. 60 more arrive at once and wait:
2.75 + 60 / (2 * 60 s) = 3.25, so 4, in the first tick that sees them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import ceil, inf

from shift_operator.api.signals import Instant, Traffic
from shift_operator.control.decision import Decision, Fact, Knob
from shift_operator.control.fallback import Fallback
from shift_operator.control.load import Doubt, Look, known
from shift_operator.control.performance import CapacityBound, PerfModel, Slo
from shift_operator.control.reasons import ReplicasLimit, ReplicasReason
from shift_operator.control.scaling import PodsSeen, ReplicaBounds, ReplicaLaw, ReplicaState

ReplicasDecision = Decision[ReplicasReason, ReplicasLimit]

ROUNDING = 1e-9
"""A ratio this little above a whole number is that number."""


def decide_replicas(
    before: int,
    traffic: Traffic,
    pods: PodsSeen,
    bounds: ReplicaBounds,
    slo: Slo,
    model: PerfModel | None,
    state: ReplicaState,
    *,
    now: Instant,
    law: ReplicaLaw | None = None,
    fallback: Fallback | None = None,
) -> tuple[ReplicasDecision, ReplicaState]:
    """What becomes of `before` replicas, and the state for the next decision. `model` is None where none is known.

    Pure and total: any signals give a decision, and `after` lies between `bounds.lowest` and `bounds.maximum`.
    """
    law = law or ReplicaLaw()
    look = Look.at(now, before, traffic.as_of(now, law.max_age_seconds), pods, bounds, slo, model, state, law)
    if before == 0 and bounds.idle_replicas == 0 and pods.ready == 0:
        return _asleep(look)
    asked = max(_asking(look), key=lambda ask: ask.replicas, default=None)
    if look.doubt is not None:
        return _in_doubt(look, look.doubt, asked, fallback)
    return _known(look, asked or _Ask(0, ReplicasReason.DEMAND, ()))


@dataclass(frozen=True, slots=True)
class _Ask:
    """This many replicas are needed, and why."""

    replicas: int
    reason: ReplicasReason
    evidence: tuple[Fact, ...]


def _asking(look: Look) -> Iterator[_Ask]:
    """Everything that asks for replicas, each on the signals that it needs and no others."""
    law, traffic, running = look.law, look.traffic, known(look.traffic.running) or 0.0
    settled, stand_in = look.on_their_way == 0, min(look.pods.late, 1)
    one_more = look.before - look.pods.late - look.pods.unplaced + 1 + stand_in
    if look.idle:
        return
    if look.waiting > 0 and not settled:
        # What is on its way was asked for this queue: it must not be sent away before it has come.
        yield _Ask(look.before, ReplicasReason.QUEUE_GROWS, look.facts)
    if look.rate is not None and look.capacity is not None:
        per_replica = look.capacity.requests_per_second
        load = (1 + law.up_headroom) * look.rate / per_replica
        yield _Ask(_up(load) + stand_in, ReplicasReason.DEMAND, look.facts)
        if look.waiting > 0 and settled:
            queue = load + look.waiting / (per_replica * law.drain_seconds)
            if _up(queue) > _up(load):
                yield _Ask(_up(queue) + stand_in, ReplicasReason.QUEUE_GROWS, look.facts)
    elif look.waiting >= max(running, 1.0) and settled:
        yield _Ask(one_more, ReplicasReason.QUEUE_GROWS, look.facts)
    kv = known(traffic.kv_usage)
    if kv is not None and kv >= law.kv_full and look.waiting > 0 and settled:
        needed = max(_up(look.pods.ready * kv / law.kv_room) + stand_in, one_more)
        yield _Ask(needed, ReplicasReason.KV_CACHE_FULL, look.facts)
    # Another replica helps a TTFT that a queue delays, and a TPOT that sharing a batch delays: no others.
    missed = [
        name
        for name, signal, helps in (
            ("TTFT", traffic.ttft, look.waiting > 0),
            ("TPOT", traffic.tpot, running > look.pods.ready),
        )
        if helps and look.attained(signal) is False
    ]
    patient = look.state.raised_at is None or look.now - look.state.raised_at >= law.slo_patience_seconds
    reachable = look.capacity is None or look.capacity.bound is not CapacityBound.SLO_UNREACHABLE
    if missed and settled and patient and reachable:
        yield _Ask(one_more, ReplicasReason.SLO_MISSED, (Fact("missed", ", ".join(missed)), *look.facts))


def _up(replicas: float) -> int:
    return ceil(replicas * (1 - ROUNDING))


def _asleep(look: Look) -> tuple[ReplicasDecision, ReplicaState]:
    """No pod, hence no signal: only a request that asks for it counts."""
    target = max(look.bounds.minimum, 1) if look.pods.woken else 0
    target = min(target, look.bounds.maximum)
    reason = ReplicasReason.WOKEN if target else ReplicasReason.ASLEEP
    state = replace(
        look.state,
        window=look.state.window.with_one_more(look.now, target, look.law.stabilization_seconds),
        unknown_since=None,
        idle_since=None,
        raised_at=look.now if target else look.state.raised_at,
    )
    return Decision(Knob.REPLICAS, before=0, wanted=target, after=target, reason=reason), state


def _in_doubt(
    look: Look, doubt: Doubt, asked: _Ask | None, fallback: Fallback | None
) -> tuple[ReplicasDecision, ReplicaState]:
    """Nothing goes down; up on what is known, and to the fallback once unknown for long."""
    base = look.clamped
    since = look.state.unknown_since
    if fallback is not None and since is not None and fallback.is_due(since, look.now):
        unknown_for = Fact("unknown for", f"{look.now - since:.0f} s")
        last_resort = _Ask(fallback.value, ReplicasReason.FALLBACK, (unknown_for, *doubt.evidence))
        asked = last_resort if asked is None or fallback.value > asked.replicas else asked
    if asked is not None and asked.replicas > base:
        return _move(look, asked, asked.replicas, floor=base)
    reason = doubt.reason if base == look.before else ReplicasReason.OUTSIDE_BOUNDS
    state = _recorded(look, base)
    decision: ReplicasDecision = Decision(
        Knob.REPLICAS, before=look.before, wanted=None, after=base, reason=reason, evidence=doubt.evidence
    )
    return decision, state


def _known(look: Look, asked: _Ask) -> tuple[ReplicasDecision, ReplicaState]:
    """All that is needed is known: up at once, down after the window and the two tests."""
    since = look.state.idle_since
    asleep = look.bounds.idle_replicas is not None and since is not None
    sleeps = asleep and since is not None and look.now - since >= look.bounds.idle_after_seconds
    floor = look.bounds.lowest if sleeps else look.bounds.minimum
    if sleeps:
        idle_for = Fact("idle for", f"{look.now - (since or look.now):.0f} s")
        asked = _Ask(asked.replicas, ReplicasReason.IDLE, (idle_for, *look.facts))
    return _move(look, asked, asked.replicas, floor=floor)


def _move(look: Look, asked: _Ask, wanted: int, *, floor: int) -> tuple[ReplicasDecision, ReplicaState]:
    """From `before` to what is asked, as far as bounds, rate, window and the tests for going down allow."""
    law, bounds, base = look.law, look.bounds, look.clamped
    state = _recorded(look, min(max(wanted, bounds.lowest), bounds.maximum))
    target = min(max(wanted, floor), bounds.maximum)
    limit = _bound_limit(wanted, target, floor)
    reason, evidence = asked.reason, asked.evidence
    if target > look.before:
        most = max(int(look.before * law.max_up_factor), look.before + law.max_up_replicas, floor)
        if target > most:
            target, limit = most, ReplicasLimit.SCALE_UP_RATE
        if wanted <= look.before:
            reason = ReplicasReason.OUTSIDE_BOUNDS
        state = replace(state, raised_at=look.now)
    elif target < base:
        lowest = min(max(state.window.highest(), target), base)
        if not state.window.is_full(look.now, law.stabilization_seconds):
            lowest = base
        target, tests = _safe(look, lowest, base)
        if target == base:
            stabilizing = lowest == base
            reason = ReplicasReason.STABILIZING if stabilizing else ReplicasReason.SCALE_DOWN_UNSAFE
            limit = ReplicasLimit.STABILIZATION if stabilizing else ReplicasLimit.SCALE_DOWN_TESTS
        elif target > lowest:
            limit = ReplicasLimit.SCALE_DOWN_TESTS
        elif lowest > max(wanted, floor):
            limit = ReplicasLimit.STABILIZATION
        evidence = (*tests, *evidence)
        if target == base != look.before:
            reason = ReplicasReason.OUTSIDE_BOUNDS
    elif base != look.before:
        reason = ReplicasReason.OUTSIDE_BOUNDS
    decision = Decision(
        Knob.REPLICAS,
        before=look.before,
        wanted=wanted,
        after=target,
        reason=reason,
        limit=limit,
        evidence=evidence,
    )
    return decision, state


def _safe(look: Look, lowest: int, base: int) -> tuple[int, tuple[Fact, ...]]:
    """The fewest replicas from `lowest` on that pass both tests, and what failed one fewer; `base` if none passes."""
    failed: tuple[Fact, ...] = ()
    for replicas in range(base - 1, lowest - 1, -1):
        failed = tuple(_failures(look, replicas))
        if failed:
            return replicas + 1, failed
    return lowest, failed


def _failures(look: Look, replicas: int) -> Iterator[Fact]:
    """What speaks against so few replicas: first what the model says, then what is measured."""
    law, serving = look.law, min(replicas, look.pods.ready)
    if look.idle:
        return
    if look.rate is not None and look.capacity is not None:
        needed = (1 + law.down_headroom) * look.rate / look.capacity.requests_per_second
        if needed > serving:
            yield Fact(f"at {serving} ready replicas", f"demand with headroom takes {needed:.2f}")
    if look.waiting > 0:
        yield Fact("waiting", f"{look.waiting:.0f} requests, none may wait to go down")
    kv = known(look.traffic.kv_usage)
    if kv is not None:
        after = kv * look.pods.ready / serving if serving else inf
        if after > law.kv_room:
            yield Fact(f"KV cache at {replicas} replicas", f"{100 * after:.0f} %, at most {100 * law.kv_room:.0f} %")
    for name, signal in (("TTFT", look.traffic.ttft), ("TPOT", look.traffic.tpot)):
        if look.attained(signal) is False:
            yield Fact(name, "the SLO is missed already")


def _recorded(look: Look, recommendation: int) -> ReplicaState:
    window = look.state.window.with_one_more(look.now, recommendation, look.law.stabilization_seconds)
    return replace(look.state, window=window)


def _bound_limit(wanted: int, target: int, floor: int) -> ReplicasLimit | None:
    if wanted > target:
        return ReplicasLimit.MAX_REPLICAS
    return ReplicasLimit.MIN_REPLICAS if wanted < floor else None
