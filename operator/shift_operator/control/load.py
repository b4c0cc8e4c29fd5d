"""One look at a deployment's load: what is known, what follows from it, and what is in doubt.

Which replicas to run on it is the replicas law's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from shift_operator.api.signals import (
    Attainment,
    Instant,
    Known,
    Signal,
    Traffic,
    Unknown,
    UnknownWhy,
)
from shift_operator.control.decision import Fact
from shift_operator.control.demand import Trend, arrivals, peak
from shift_operator.control.performance import Capacity, Mix, PerfModel, Slo, capacity, corrected
from shift_operator.control.reasons import ReplicasReason
from shift_operator.control.scaling import PodsSeen, ReplicaBounds, ReplicaLaw, ReplicaState

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Doubt:
    """Why nothing may go down."""

    reason: ReplicasReason
    evidence: tuple[Fact, ...]


NO_MODEL = Fact("needed", "curves of this degree and of small steps, the engine's limits, the size of its KV cache")
"""What a performance model is made of."""

REASON_OF_UNKNOWN: Mapping[UnknownWhy, ReplicasReason] = {
    UnknownWhy.ABSENT: ReplicasReason.SIGNALS_MISSING,
    UnknownWhy.NOT_A_NUMBER: ReplicasReason.SIGNALS_MISSING,
    UnknownWhy.STALE: ReplicasReason.SIGNALS_STALE,
    UnknownWhy.PARTIAL: ReplicasReason.SIGNALS_PARTIAL,
    UnknownWhy.UNREACHABLE: ReplicasReason.PROMETHEUS_UNREACHABLE,
}


@dataclass(frozen=True, slots=True)
class Look:
    """One look at a deployment: what is known, what follows from it, and what is in doubt.

    `rate`: requests per second to serve within the SLO, bursts and growth included.
    """

    now: Instant
    before: int
    traffic: Traffic
    pods: PodsSeen
    bounds: ReplicaBounds
    slo: Slo
    law: ReplicaLaw
    state: ReplicaState
    idle: bool
    rate: float | None
    capacity: Capacity | None
    doubt: Doubt | None
    facts: tuple[Fact, ...]

    @classmethod
    def at(
        cls,
        now: Instant,
        before: int,
        traffic: Traffic,
        pods: PodsSeen,
        bounds: ReplicaBounds,
        slo: Slo,
        model: PerfModel | None,
        state: ReplicaState,
        law: ReplicaLaw,
    ) -> "Look":
        """Works out from the signals all that the law asks for, and moves the state on to `now`."""
        complete = _complete(traffic, pods)
        seen = arrivals(traffic, complete=complete)
        idle = complete and seen == 0 and known(traffic.running) == 0 and known(traffic.waiting) == 0
        rate, trend = seen, state.trend
        if seen is not None:
            if complete:
                trend = trend.updated(now, seen) if trend else Trend(now, seen)
            if trend is not None and not idle:
                rate = max(seen, trend.ahead(pods.start_seconds))
        mean_rate = rate
        if rate is not None and slo.promises:  # without a promise a burst may wait
            rate = peak(rate, known(traffic.span_counts), slo.quantile)
        mix = _mix(traffic)
        can, correction, corrected_at = None, state.correction, state.corrected_at
        if model is not None and mix is not None:
            model = replace(model, correction=correction)
            if complete and seen is not None:
                model, corrected_at = _learn(model, mix, traffic, pods, before, seen, corrected_at, now)
                correction = model.correction
            can = capacity(model, mix, slo)
        doubt = _doubt(traffic, pods, slo, idle=idle, mix=mix, modelled=model is not None)
        state = replace(
            state,
            trend=trend,
            correction=correction,
            corrected_at=corrected_at,
            unknown_since=(state.unknown_since if state.unknown_since is not None else now) if doubt else None,
            idle_since=(state.idle_since if state.idle_since is not None else now) if idle else None,
        )
        return cls(
            now,
            before,
            traffic,
            pods,
            bounds,
            slo,
            law,
            state,
            idle,
            rate,
            can,
            doubt,
            _facts(traffic, mean_rate, rate, can),
        )

    @property
    def waiting(self) -> float:
        """Requests that wait, at least: 0 where unknown, since it is only used to ask for more."""
        return known(self.traffic.waiting) or 0.0

    @property
    def on_their_way(self) -> int:
        """Replicas that were asked for and will serve: their pods start, or are not made yet."""
        accounted = self.pods.ready + self.pods.starting + self.pods.late + self.pods.unplaced
        return self.pods.starting + max(self.before - accounted, 0)

    @property
    def clamped(self) -> int:
        """`before`, within the user's bounds."""
        return min(max(self.before, self.bounds.lowest), self.bounds.maximum)

    def attained(self, signal: Signal[Attainment]) -> bool | None:
        """Whether the SLO is measured as kept; None where it cannot be told."""
        match signal:
            case Known(Attainment(within, requests, _)) if requests >= self.law.min_requests:
                return within >= self.slo.quantile * requests
            case _:
                return None


def _complete(traffic: Traffic, pods: PodsSeen) -> bool:
    """Whether as many pods report as are ready, and one at least: no pod at all says nothing of the load."""
    return isinstance(traffic.pods_reporting, Known) and traffic.pods_reporting.value >= max(pods.ready, 1)


def known(signal: Signal[Value]) -> Value | None:
    """The value, or None."""
    return signal.value if isinstance(signal, Known) else None


def _mix(traffic: Traffic) -> Mix | None:
    """None where no request finished of late. A hit ratio that is not known counts as no hit: more to compute."""
    match traffic.prompt_tokens, traffic.output_tokens:
        case Known(prompt), Known(output):
            return Mix.of(prompt, output, known(traffic.prefix_hit_ratio) or 0.0)
        case _:
            return None


def _learn(
    model: PerfModel,
    mix: Mix,
    traffic: Traffic,
    pods: PodsSeen,
    before: int,
    rate: float,
    corrected_at: Instant | None,
    now: Instant,
) -> tuple[PerfModel, Instant | None]:
    """The model corrected by the measured TPOT, in steady state only: all replicas are ready, and none waits.

    And when it was compared with the traffic last, None where it cannot be now.
    """
    measured = known(traffic.tpot_seconds)
    steady = pods.ready == before > 0 and pods.starting == 0 and known(traffic.waiting) == 0
    if measured is None or rate <= 0 or not steady:
        return model, None
    if corrected_at is not None:
        elapsed = now - corrected_at
        model = corrected(model, mix, rate=rate / pods.ready, measured_tpot=measured, elapsed_seconds=elapsed)
    return model, now


def _doubt(traffic: Traffic, pods: PodsSeen, slo: Slo, *, idle: bool, mix: Mix | None, modelled: bool) -> Doubt | None:
    needed: list[Signal[object]] = [
        traffic.pods_reporting,
        traffic.finish_rate,
        traffic.in_system_slope,
        traffic.span_counts,
        traffic.running,
        traffic.waiting,
        traffic.kv_usage,
    ]
    if not idle:  # an idle deployment has no requests, hence no mix and no latency, and that is known
        needed += [traffic.prompt_tokens, traffic.output_tokens]
        needed += [traffic.ttft] if slo.ttft_seconds is not None else []
        needed += [traffic.tpot] if slo.tpot_seconds is not None else []
    unknown = [signal for signal in needed if isinstance(signal, Unknown)]
    if unknown:
        lacks = (Fact(u.source, f"{u.why}" + (f" ({u.detail})" if u.detail else "")) for u in unknown)
        return Doubt(REASON_OF_UNKNOWN[unknown[0].why], tuple(dict.fromkeys(lacks)))
    if isinstance(traffic.pods_reporting, Known) and not _complete(traffic, pods):
        reporting = Fact("pods reporting", f"{traffic.pods_reporting.value} of {pods.ready} ready")
        return Doubt(ReplicasReason.SIGNALS_PARTIAL, (reporting,))
    if not idle and not modelled:
        return Doubt(ReplicasReason.NO_PERFORMANCE_MODEL, (NO_MODEL,))
    return None


def _facts(traffic: Traffic, mean_rate: float | None, rate: float | None, can: Capacity | None) -> tuple[Fact, ...]:
    bursts = rate is not None and mean_rate is not None and rate > mean_rate
    return tuple(
        fact
        for fact in (
            Fact("demand", f"{mean_rate:.2f} requests/s") if mean_rate is not None else None,
            Fact("demand in bursts", f"{rate:.2f} requests/s") if bursts else None,
            Fact("waiting", f"{traffic.waiting.value:.0f} requests") if isinstance(traffic.waiting, Known) else None,
            Fact("capacity", f"{can.requests_per_second:.2f} requests/s per replica, bound by {can.bound}")
            if can
            else None,
        )
        if fact is not None
    )
