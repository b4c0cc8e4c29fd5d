"""Pooling: a deployment with too few steps of its own borrows those of the deployments that share its profile.

One profile key means one model, GPU, degree and engine: the curves are the same, and traffic of a like kind is a
better guess than none. A deployment with enough steps uses its own only. Each pool is summed once, however many
deployments borrow from it.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import fsum

from shift_operator.api.signals import Instant, Known, Signals, SizeBucket

Edges = tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class _Pool:
    """The steps of a profile's deployments whose histograms have the same edges, and when the oldest was seen."""

    steps: tuple[float, ...]
    at: Instant
    deployments: int


class Pools:
    """The steps of each profile's deployments. What is unknown of a deployment is in none of them."""

    def __init__(self, signals: Iterable[tuple[str, Signals]]) -> None:
        """`signals`: each deployment's profile and signals."""
        self._members: dict[str, list[Known[tuple[SizeBucket, ...]]]] = defaultdict(list)
        for profile, seen in signals:
            if isinstance(seen.step_sizes, Known):
                self._members[profile].append(seen.step_sizes)
        self._summed: dict[tuple[str, Instant], dict[Edges, _Pool]] = {}

    def pooled(
        self, profile: str | None, own: Signals, min_steps: float, now: Instant, max_age_seconds: float
    ) -> tuple[Signals, int]:
        """`own` with the whole pool's steps where it has fewer than `min_steps`, and how many others are in them.

        An unknown stays one, and so does what is older than allowed: neither borrows. Histograms with other bucket
        edges (another engine version) are another pool.
        """
        sizes = own.step_sizes
        if profile is None or not isinstance(sizes, Known) or sizes.age(now) > max_age_seconds:
            return own, 0
        if fsum(bucket.steps for bucket in sizes.value) >= min_steps:
            return own, 0
        pool = self._pools(profile, now - max_age_seconds).get(_edges(sizes.value))
        if pool is None or pool.deployments < 2:
            return own, 0
        buckets = tuple(
            SizeBucket(bucket.above, bucket.up_to, steps) for bucket, steps in zip(sizes.value, pool.steps, strict=True)
        )
        return replace(own, step_sizes=replace(sizes, value=buckets, at=pool.at)), pool.deployments - 1

    def _pools(self, profile: str, oldest: Instant) -> dict[Edges, _Pool]:
        key = (profile, oldest)
        if key not in self._summed:
            by_edges: dict[Edges, list[Known[tuple[SizeBucket, ...]]]] = defaultdict(list)
            for sizes in self._members[profile]:
                if sizes.at >= oldest:
                    by_edges[_edges(sizes.value)].append(sizes)
            self._summed[key] = {edges: _sum(members) for edges, members in by_edges.items()}
        return self._summed[key]


def _edges(buckets: Iterable[SizeBucket]) -> Edges:
    return tuple((bucket.above, bucket.up_to) for bucket in buckets)


def _sum(members: list[Known[tuple[SizeBucket, ...]]]) -> _Pool:
    columns = zip(*(sizes.value for sizes in members), strict=True)
    steps = tuple(fsum(bucket.steps for bucket in column) for column in columns)
    return _Pool(steps, min(sizes.at for sizes in members), len(members))
