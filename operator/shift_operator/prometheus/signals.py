"""From the query's answer to typed signals: strict, since what is read here as a number will move something.

A series that is missing, not a number, or lacks a neighbour that it makes sense with, becomes an Unknown with its
reason. It never becomes 0, and it takes no other signal with it.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import lru_cache
from math import inf, isfinite, nan
from typing import TypeVar

from pydantic import ValidationError

from shift_operator.api.schedule import Degree
from shift_operator.api.signals import (
    SOURCES,
    CurvePoint,
    DeploymentKey,
    Instant,
    Known,
    Signal,
    Signals,
    SizeBucket,
    Span,
    Unknown,
    UnknownWhy,
)
from shift_operator.prometheus.client import QueryResult, Sample
from shift_operator.prometheus.query import Part

Value = TypeVar("Value")

_Parts = Mapping[str, list[Sample]]


class _Doubtful(Exception):
    """A signal cannot be read: why, and what is wrong in words."""

    def __init__(self, why: UnknownWhy, detail: str) -> None:
        super().__init__(detail)
        self.why = why
        self.detail = detail


def read_signals(result: QueryResult) -> dict[DeploymentKey, Signals]:
    """The signals of each deployment that the answer to `cluster_query` speaks of.

    A deployment that is not in it has no series at all. Where the answer came with warnings it may lack series, so
    every signal is Unknown(Partial) with the warning.
    """
    by_deployment: dict[DeploymentKey, dict[str, list[Sample]]] = defaultdict(lambda: defaultdict(list))
    for sample in result.samples:
        labels = sample.labels
        namespace, name, signal = labels.get("namespace"), labels.get("deployment"), labels.get("signal")
        if namespace and name and signal:
            by_deployment[DeploymentKey(namespace, name)][signal].append(sample)
    if result.warnings:
        detail = "Prometheus warns: " + "; ".join(result.warnings)[:300]
        partial = Signals(**{name: Unknown(UnknownWhy.PARTIAL, source, detail) for name, source in SOURCES.items()})
        return dict.fromkeys(by_deployment, partial)
    return {key: _signals(parts, result.at) for key, parts in by_deployment.items()}


def _signals(parts: _Parts, at: Instant) -> Signals:
    def signal(name: str, read: Callable[[_Parts], Value]) -> Signal[Value]:
        source = SOURCES[name]
        try:
            return Known(read(parts), min(_number(Part.SAMPLED_AT)(parts), at), source)
        except _Doubtful as doubt:
            return Unknown(doubt.why, source, doubt.detail)

    return Signals(
        step_sizes=signal("step_sizes", _buckets),
        steps=signal("steps", _steps),
        step_time=signal("step_time", _curves),
        max_batched_tokens=signal("max_batched_tokens", _whole(Part.MAX_BATCHED_TOKENS)),
        pods_reporting=signal("pods_reporting", _whole(Part.PODS_REPORTING)),
        threshold_tokens=signal("threshold_tokens", _span(Part.THRESHOLD_LOW, Part.THRESHOLD_HIGH)),
        generation=signal("generation", _span(Part.GENERATION_LOW, Part.GENERATION_HIGH)),
        running=signal("running", _number(Part.RUNNING)),
        waiting=signal("waiting", _number(Part.WAITING)),
    )


def _number(part: Part) -> Callable[[_Parts], float]:
    """Reads the one value of a part."""

    def read(parts: _Parts) -> float:
        samples = _series(parts, part)
        if len(samples) > 1:
            raise _Doubtful(UnknownWhy.NOT_A_NUMBER, f"{len(samples)} values of {part} where one belongs")
        return _finite(samples[0])

    return read


def _whole(part: Part) -> Callable[[_Parts], int]:
    """Reads the one value of a part that is a count."""

    def read(parts: _Parts) -> int:
        value = _number(part)(parts)
        if value != int(value):
            raise _Doubtful(UnknownWhy.NOT_A_NUMBER, f"{part} is {value:g}, not a whole number")
        return int(value)

    return read


def _span(low: Part, high: Part) -> Callable[[_Parts], Span]:
    return lambda parts: Span(_whole(low)(parts), _whole(high)(parts))


def _buckets(parts: _Parts) -> tuple[SizeBucket, ...]:
    """The histogram's cumulative counts as separate buckets.

    `increase` extrapolates each series to the window's ends by itself, so a larger bucket may come out a hair below a
    smaller one; as in PromQL's own histogram_quantile the larger one then counts as much.
    """
    up_to = sorted((_label(sample, "le"), _finite(sample)) for sample in _series(parts, Part.STEP_SIZES))
    if up_to[-1][0] != inf:
        raise _Doubtful(UnknownWhy.PARTIAL, "the bucket le=+Inf is missing")
    buckets, above, below = [], 0.0, 0.0
    for edge, steps in up_to:
        buckets.append(SizeBucket(int(above), edge, max(steps - below, 0.0)))
        above, below = edge, max(steps, below)
    return tuple(buckets)


def _steps(parts: _Parts) -> Mapping[Degree, float]:
    return {_degree_of(sample): _finite(sample) for sample in _series(parts, Part.STEPS)}


def _curves(parts: _Parts) -> Mapping[Degree, tuple[CurvePoint, ...]]:
    curves: dict[Degree, list[CurvePoint]] = defaultdict(list)
    for sample in _series(parts, Part.STEP_TIME):
        point = CurvePoint(_label_whole(sample, "tokens"), _finite(sample))
        if point.seconds == 0:
            raise _Doubtful(UnknownWhy.NOT_A_NUMBER, f"a step of {point.tokens} tokens takes 0 s")
        curves[_degree_of(sample)].append(point)
    sizes = {degree: [point.tokens for point in points] for degree, points in curves.items()}
    if len({frozenset(tokens) for tokens in sizes.values()}) > 1:
        lengths = ", ".join(f"{degree} at {len(tokens)} sizes" for degree, tokens in sizes.items())
        raise _Doubtful(UnknownWhy.PARTIAL, f"the curves differ in their sizes: {lengths}")
    return {degree: tuple(sorted(points)) for degree, points in curves.items()}


def _series(parts: _Parts, part: Part) -> list[Sample]:
    samples = parts.get(part)
    if not samples:
        raise _Doubtful(UnknownWhy.ABSENT, "")
    return samples


def _finite(sample: Sample) -> float:
    """The sample's value. Nothing that we read can be negative, and nothing infinite."""
    if not isfinite(sample.value) or sample.value < 0:
        own = {
            name: value for name, value in sample.labels.items() if name not in ("namespace", "deployment", "signal")
        }
        where = "".join(f" at {name}={value}" for name, value in own.items())
        raise _Doubtful(UnknownWhy.NOT_A_NUMBER, f"{sample.value:g}{where}")
    return sample.value


def _label(sample: Sample, name: str) -> float:
    try:
        value = float(sample.labels[name])
    except (KeyError, ValueError):
        value = nan
    if not value > 0:
        raise _Doubtful(UnknownWhy.NOT_A_NUMBER, f"label {name} is {sample.labels.get(name)!r}, no positive number")
    return value


def _label_whole(sample: Sample, name: str) -> int:
    value = _label(sample, name)
    if not value.is_integer():  # infinity is none either
        raise _Doubtful(UnknownWhy.NOT_A_NUMBER, f"label {name} is {sample.labels[name]!r}, no whole number")
    return int(value)


def _degree_of(sample: Sample) -> Degree:
    return _degree(_label_whole(sample, "sequence"), _label_whole(sample, "tensor"))


@lru_cache(maxsize=256)
def _degree(sequence: int, tensor: int) -> Degree:
    try:
        return Degree(sequence=sequence, tensor=tensor)
    except ValidationError as error:
        raise _Doubtful(UnknownWhy.NOT_A_NUMBER, f"{sequence}x{tensor} is no degree of one replica") from error
