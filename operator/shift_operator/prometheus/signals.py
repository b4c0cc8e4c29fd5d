"""From the query's answer to typed signals: strict, since what is read here as a number will move something.

A series that is missing, not a number, or lacks a neighbour that it makes sense with, becomes an Unknown with its
reason. It never becomes 0, and it takes no other signal with it.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import lru_cache
from itertools import accumulate
from operator import sub

from pydantic import ValidationError

from shift_operator.api.schedule import Degree
from shift_operator.api.signals import (
    SOURCES,
    CurvePoint,
    DeploymentKey,
    Instant,
    Signals,
    SizeBucket,
    Span,
    UnknownWhy,
    nothing_known,
)
from shift_operator.prometheus import reading
from shift_operator.prometheus.client import QueryResult, Sample
from shift_operator.prometheus.query import Part
from shift_operator.prometheus.reading import (
    Doubtful,
    Parts,
    counts_by_edge,
    finite,
    label_whole,
    number,
    positive_whole,
    series,
    whole,
)


def read_signals(result: QueryResult) -> dict[DeploymentKey, Signals]:
    """The signals of each deployment that the answer to `cluster_query` speaks of.

    A deployment that is not in it has no series at all. Where the answer came with warnings it may lack series, so
    every signal is Unknown(Partial) with the warning.
    """
    seen = reading.by_deployment(result)
    warning = reading.warning_in(result)
    if warning is not None:
        return dict.fromkeys(seen, nothing_known(UnknownWhy.PARTIAL, warning))
    return {key: _signals(parts, result.at) for key, parts in seen.items()}


def _signals(parts: Parts, at: Instant) -> Signals:
    read = reading.Reader(parts, SOURCES, at).signal
    return Signals(
        step_sizes=read("step_sizes", _buckets),
        steps=read("steps", _steps),
        step_time=read("step_time", _curves),
        max_batched_tokens=read("max_batched_tokens", whole(Part.MAX_BATCHED_TOKENS)),
        max_sequences=read("max_sequences", whole(Part.MAX_SEQUENCES)),
        pods_reporting=read("pods_reporting", whole(Part.PODS_REPORTING)),
        threshold_tokens=read("threshold_tokens", _span(Part.THRESHOLD_LOW, Part.THRESHOLD_HIGH)),
        generation=read("generation", _span(Part.GENERATION_LOW, Part.GENERATION_HIGH)),
        running=read("running", number(Part.RUNNING)),
        waiting=read("waiting", number(Part.WAITING)),
    )


def _span(low: Part, high: Part) -> Callable[[Parts], Span]:
    return lambda parts: Span(whole(low)(parts), whole(high)(parts))


def _buckets(parts: Parts) -> tuple[SizeBucket, ...]:
    """The histogram's cumulative counts as separate buckets.

    `increase` extrapolates each series to the window's ends by itself, so a larger bucket may come out a hair below a
    smaller one; as in PromQL's own histogram_quantile the larger one then counts as much.
    """
    by_edge = counts_by_edge(parts, Part.STEP_SIZES)
    edges, counts = list(by_edge), list(accumulate(by_edge.values(), max))
    return tuple(map(SizeBucket, (0, *map(int, edges[:-1])), edges, map(sub, counts, (0.0, *counts))))


def _steps(parts: Parts) -> Mapping[Degree, float]:
    return {
        _degree(sample.labels.get("sequence"), sample.labels.get("tensor")): finite(sample)
        for sample in series(parts, Part.STEPS)
    }


def _curves(parts: Parts) -> Mapping[Degree, tuple[CurvePoint, ...]]:
    by_labels: dict[tuple[str | None, str | None], list[CurvePoint]] = defaultdict(list)
    for sample in series(parts, Part.STEP_TIME):
        by_labels[sample.labels.get("sequence"), sample.labels.get("tensor")].append(_point(sample))
    curves: dict[Degree, list[CurvePoint]] = defaultdict(list)
    for labels, points in by_labels.items():  # of one degree each, but for one that is written in two ways
        curves[_degree(*labels)] += points
    sizes = {degree: [point.tokens for point in points] for degree, points in curves.items()}
    if len({frozenset(tokens) for tokens in sizes.values()}) > 1:
        lengths = ", ".join(f"{degree} at {len(tokens)} sizes" for degree, tokens in sizes.items())
        raise Doubtful(UnknownWhy.PARTIAL, f"the curves differ in their sizes: {lengths}")
    return {degree: tuple(sorted(points)) for degree, points in curves.items()}


def _point(sample: Sample) -> CurvePoint:
    point = CurvePoint(label_whole(sample, "tokens"), finite(sample))
    if point.seconds == 0:
        raise Doubtful(UnknownWhy.NOT_A_NUMBER, f"a step of {point.tokens} tokens takes 0 s")
    return point


@lru_cache(maxsize=256)
def _degree(sequence: str | None, tensor: str | None) -> Degree:
    """The degree that the two labels say."""
    ways = positive_whole("sequence", sequence), positive_whole("tensor", tensor)
    try:
        return Degree(sequence=ways[0], tensor=ways[1])
    except ValidationError as error:
        raise Doubtful(UnknownWhy.NOT_A_NUMBER, f"{ways[0]}x{ways[1]} is no degree of one replica") from error
