"""Deployments in front of the replicas law: builders with a plain default for everything a test does not speak of."""

from typing import Any

from shift_operator.api.signals import (
    TRAFFIC_SOURCES,
    Attainment,
    CurvePoint,
    Instant,
    Known,
    SpanCounts,
    Traffic,
    Unknown,
    UnknownWhy,
)
from shift_operator.control.curves import Curve
from shift_operator.control.performance import PerfModel, Slo
from shift_operator.control.scaling import PodsSeen, ReplicaBounds, ReplicaState
from shift_operator.control.stabilization import Window

NOW: Instant = 1_800_000_000.0
SLO = Slo(ttft_seconds=2.0, tpot_seconds=0.05)
BOUNDS = ReplicaBounds(minimum=1, maximum=20)
FLAT = Curve((CurvePoint(1, 0.01), CurvePoint(8192, 0.01)))


def curve(floor: float, per_token: float) -> Curve:
    """A step takes `floor` seconds to read the weights and `per_token` more for each token."""
    return Curve((CurvePoint(1, floor + per_token), CurvePoint(8192, floor + 8192 * per_token)))


def a_model(**other: Any) -> PerfModel:
    """About 8 GPUs: tensor-parallel 8 ms + 30 us per token, sequence-parallel 25 ms + 12 us per token."""
    values: dict[str, Any] = {
        "small": curve(0.008, 30e-6),
        "large": curve(0.025, 12e-6),
        "threshold_tokens": 900,
        "max_batched_tokens": 8192,
        "max_sequences": 256,
        "kv_capacity_tokens": 400_000.0,
    }
    return PerfModel(**(values | other))


def traffic(at: Instant = NOW - 5, **other: Any) -> Traffic:
    """Three pods that report a steady 5 requests per second and keep the SLO. `other` gives values, or Unknowns."""
    values: dict[str, Any] = {
        "finish_rate": 5.0,
        "in_system_slope": 0.0,
        "span_counts": SpanCounts(150.0, 15.0),
        "prompt_tokens": 1000.0,
        "output_tokens": 200.0,
        "prefix_hit_ratio": 0.0,
        "running": 15.0,
        "waiting": 0.0,
        "kv_usage": 0.3,
        "kv_capacity_tokens": 400_000.0,
        "ttft": Attainment(300, 300, 2.0),
        "tpot": Attainment(300, 300, 0.05),
        "tpot_seconds": 0.02,
        "pods_reporting": 3,
    } | other
    return Traffic(
        **{
            name: Known(value, at, TRAFFIC_SOURCES[name])
            if isinstance(value, int | float | Attainment | SpanCounts)
            else value
            for name, value in values.items()
        }
    )


def idle(pods: int = 3, **other: Any) -> Traffic:
    """Pods that report and have nothing to do: rates are a known 0, means and attainments are absent."""
    absent = {
        name: Unknown(UnknownWhy.ABSENT, TRAFFIC_SOURCES[name])
        for name in ("prompt_tokens", "output_tokens", "prefix_hit_ratio", "tpot_seconds")
    }
    nothing = {
        "finish_rate": 0.0,
        "span_counts": SpanCounts(0.0, 0.0),
        "running": 0.0,
        "kv_usage": 0.0,
        "pods_reporting": pods,
    }
    none_asked = {"ttft": Attainment(0, 0, 2.0), "tpot": Attainment(0, 0, 0.05)}
    return traffic(**(absent | nothing | none_asked | other))


def settled() -> ReplicaState:
    """A state whose window is full and empty: all that the last minutes wanted is no higher than now."""
    return ReplicaState(Window(since=NOW - 3600))


def pods(ready: int = 3, **other: Any) -> PodsSeen:
    """Ready pods, none starting."""
    return PodsSeen(ready=ready, **other)
