"""How one signal is read from the series that the query answered for a deployment: strictly, or with a `Doubtful`.

A series that is missing, not a number, or lacks a neighbour that it makes sense with, is doubtful for a reason. It
never reads as 0.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import lru_cache
from math import inf, isfinite, nan
from typing import TypeAlias, TypeVar

from shift_operator.api.signals import DeploymentKey, Instant, Known, Signal, Unknown, UnknownWhy
from shift_operator.prometheus.client import QueryResult, Sample
from shift_operator.prometheus.query import Part

Value = TypeVar("Value")

Parts: TypeAlias = Mapping[str, list[Sample]]
"""The series that an answer has of one deployment, by their label `signal`."""


class Doubtful(Exception):
    """A signal cannot be read: why, and what is wrong in words."""

    def __init__(self, why: UnknownWhy, detail: str) -> None:
        super().__init__(detail)
        self.why = why
        self.detail = detail


def by_deployment(result: QueryResult) -> dict[DeploymentKey, Parts]:
    """The answer's series by deployment and signal; those without our labels are not ours."""
    # By plain tuples: of a thousand deployments there are 200,000 samples, and making a key of each costs 0.1 s.
    found: dict[tuple[str, str], dict[str, list[Sample]]] = defaultdict(lambda: defaultdict(list))
    for sample in result.samples:
        labels = sample.labels
        try:
            found[labels["namespace"], labels["deployment"]][labels["signal"]].append(sample)
        except KeyError:
            continue
    return {DeploymentKey(*key): parts for key, parts in found.items() if all(key)}


def warning_in(result: QueryResult) -> str | None:
    """The detail of every signal where the answer came with warnings, and so may lack series; None without."""
    return "Prometheus warns: " + "; ".join(result.warnings)[:300] if result.warnings else None


class Reader:
    """Reads the signals of one deployment, as of the oldest sample of its reporting pods.

    `sources` names the metric behind each signal; `at` is the moment of the query. The answer has the three parts that
    both queries ask for: without the time of the samples nothing is known, and of a metric that fewer pods have than
    report, the others' share is unknown.
    """

    def __init__(self, parts: Parts, sources: Mapping[str, str], at: Instant) -> None:
        self._parts = parts
        self._sources = sources
        self._at: Instant | Doubtful
        try:
            self._at = min(number(Part.SAMPLED_AT)(parts), at)
        except Doubtful as doubt:
            self._at = doubt
        try:
            self._reporting: int | None = whole(Part.PODS_REPORTING)(parts)
        except Doubtful:
            self._reporting = None
        self._pods = {
            sample.labels.get("__name__"): int(sample.value)
            for sample in parts.get(Part.METRIC_PODS, ())
            if isfinite(sample.value)  # else none are known to have it
        }

    def signal(self, name: str, read: Callable[[Parts], Value]) -> Signal[Value]:
        """What `read` reads; Unknown where that is doubtful."""
        source = self._sources[name]
        try:
            value = read(self._parts)
            if isinstance(self._at, Doubtful):
                raise self._at
            pods = self._pods.get(source, 0)
            if self._reporting is not None and pods < self._reporting:
                raise Doubtful(UnknownWhy.PARTIAL, f"{pods} of {self._reporting} reporting pods have it")
        except Doubtful as doubt:
            return Unknown(doubt.why, source, doubt.detail)
        return Known(value, self._at, source, pods)


def number(part: str) -> Callable[[Parts], float]:
    """Reads the one value of a part, which cannot be negative."""
    return lambda parts: finite(_one(parts, part))


def signed(part: str) -> Callable[[Parts], float]:
    """Reads the one value of a part that may be negative."""
    return lambda parts: finite(_one(parts, part), signed=True)


def whole(part: str) -> Callable[[Parts], int]:
    """Reads the one value of a part that is a count."""

    def read(parts: Parts) -> int:
        value = number(part)(parts)
        if value != int(value):
            raise Doubtful(UnknownWhy.NOT_A_NUMBER, f"{part} is {value:g}, not a whole number")
        return int(value)

    return read


def _one(parts: Parts, part: str) -> Sample:
    samples = series(parts, part)
    if len(samples) > 1:
        raise Doubtful(UnknownWhy.NOT_A_NUMBER, f"{len(samples)} values of {part} where one belongs")
    return samples[0]


def series(parts: Parts, part: str) -> list[Sample]:
    """The series of a part, at least one."""
    samples = parts.get(part)
    if not samples:
        raise Doubtful(UnknownWhy.ABSENT, "")
    return samples


def counts_by_edge(parts: Parts, part: str) -> dict[float, float]:
    """A histogram's cumulative counts by their edges, ascending, the infinite one last.

    Prometheus 2 writes an edge as it was exposed, le="1.0", Prometheus 3 as le="1": for a window after its update there
    are two series of one edge, which belong together.
    """
    counts: dict[float, float] = defaultdict(float)
    for sample in series(parts, part):
        counts[label(sample, "le")] += finite(sample)
    if inf not in counts:
        raise Doubtful(UnknownWhy.PARTIAL, "the bucket le=+Inf is missing")
    return dict(sorted(counts.items()))


def finite(sample: Sample, *, signed: bool = False) -> float:
    """The sample's value. Nothing that we read can be infinite, and but for slopes nothing negative."""
    value = sample.value
    if 0 <= value < inf or (signed and isfinite(value)):
        return value
    own = {name: value for name, value in sample.labels.items() if name not in ("namespace", "deployment", "signal")}
    where = "".join(f" at {name}={value}" for name, value in own.items())
    raise Doubtful(UnknownWhy.NOT_A_NUMBER, f"{value:g}{where}")


def label(sample: Sample, name: str) -> float:
    """A label's value as a positive number, perhaps infinite."""
    return _positive(name, sample.labels.get(name))


def label_whole(sample: Sample, name: str) -> int:
    """A label's value as a positive whole number."""
    return positive_whole(name, sample.labels.get(name))


# Kept, as edges, sizes and degrees are the same in each deployment.
@lru_cache(maxsize=1024)
def _positive(name: str, text: str | None) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = nan
    if not value > 0:
        raise Doubtful(UnknownWhy.NOT_A_NUMBER, f"label {name} is {text!r}, no positive number")
    return value


@lru_cache(maxsize=1024)
def positive_whole(name: str, text: str | None) -> int:
    """The text of a label as a positive whole number."""
    value = _positive(name, text)
    if not value.is_integer():  # infinity is none either
        raise Doubtful(UnknownWhy.NOT_A_NUMBER, f"label {name} is {text!r}, no whole number")
    return int(value)
