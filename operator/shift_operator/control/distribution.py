"""The steps a deployment runs, taken from a histogram: which sizes, how often, and how long they take on a curve."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from math import isinf
from operator import mul

from shift_operator.api.signals import SizeBucket
from shift_operator.control.curves import Curve

SIZES_PER_BUCKET = 4
"""Sizes that stand for one bucket. The buckets double every second edge, so a quarter of one is about a tenth of n."""


class Steps:
    """The steps that ran: `counts` of them had each of the `tokens`, ascending means and hence not always whole;
    `total` is how many there were."""

    def __init__(self, tokens: Sequence[float], counts: Sequence[float]) -> None:
        self.tokens = tokens
        self.counts = counts
        self.total = sum(counts)
        self._seconds: dict[Curve, tuple[float, ...]] = {}

    def seconds(self, curve: Curve) -> tuple[float, ...]:
        """What the steps of the first 0, 1, 2, ... sizes take on the curve. Kept, since two laws ask for it."""
        seconds = self._seconds.get(curve)
        if seconds is None:
            each = map(mul, self.counts, curve.seconds_of(self.tokens))
            seconds = self._seconds[curve] = tuple(accumulate(each, initial=0.0))
        return seconds


@lru_cache(maxsize=32)
def steps_of(buckets: tuple[SizeBucket, ...], max_batched_tokens: int) -> Steps:
    """The steps of a histogram; empty buckets have none. The next law that asks gets the same ones.

    A bucket (a, b] holds the whole sizes a+1 to b and says nothing of which. They count as equally frequent, in up to
    `SIZES_PER_BUCKET` groups of neighbours, each at its mean: along a straight piece of a step-time curve the time at
    the mean is the mean of the times. A bucket of one size, as are those of the smallest decodes, is exact.
    No step is larger than `max_batched_tokens`, which so ends the bucket it lies in, the infinite one too.
    """
    tokens: list[float] = []
    counts: list[float] = []
    for bucket in buckets:
        if bucket.steps > 0:
            means = _means(bucket.above, bucket.up_to, max_batched_tokens)
            tokens += means
            counts += [bucket.steps / len(means)] * len(means)
    return Steps(tokens, counts)


@lru_cache(maxsize=1024)
def _means(above: int, up_to: float, max_batched_tokens: int) -> list[float]:
    """The sizes that stand for a bucket. Kept: most deployments have the same buckets."""
    end = max_batched_tokens if isinf(up_to) else min(int(up_to), max_batched_tokens)
    width = end - above
    if width <= 0:  # above the largest step there is: a pod with a higher limit is being replaced
        return [float(max_batched_tokens)]
    groups = min(width, SIZES_PER_BUCKET)
    return [above + 0.5 + width * (group + 0.5) / groups for group in range(groups)]
