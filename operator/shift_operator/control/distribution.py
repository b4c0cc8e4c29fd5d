"""The step sizes a deployment runs, taken from a histogram: which sizes, how often."""

from collections.abc import Sequence
from math import isinf
from typing import NamedTuple

from shift_operator.api.signals import SizeBucket

SIZES_PER_BUCKET = 4
"""Sizes that stand for one bucket. The buckets double every second edge, so a quarter of one is about a tenth of n."""


class StepSize(NamedTuple):
    """`steps` steps of `tokens` batched tokens; a mean, hence not always whole."""

    tokens: float
    steps: float


def step_sizes(buckets: Sequence[SizeBucket], max_batched_tokens: int) -> tuple[StepSize, ...]:
    """Sizes and how often they ran, ascending; empty buckets give none.

    A bucket (a, b] holds the whole sizes a+1 to b and says nothing of which. They count as equally frequent, in up to
    `SIZES_PER_BUCKET` groups of neighbours, each at its mean: along a straight piece of a step-time curve the time at
    the mean is the mean of the times. A bucket of one size, as are those of the smallest decodes, is exact.
    No step is larger than `max_batched_tokens`, which so ends the bucket it lies in, the infinite one too.
    """
    return tuple(
        StepSize(tokens, bucket.steps / len(means))
        for bucket in buckets
        if bucket.steps > 0
        for means in [_means(bucket, max_batched_tokens)]
        for tokens in means
    )


def _means(bucket: SizeBucket, max_batched_tokens: int) -> list[float]:
    end = max_batched_tokens if isinf(bucket.up_to) else min(int(bucket.up_to), max_batched_tokens)
    width = end - bucket.above
    if width <= 0:  # above the largest step there is: a pod with a higher limit is being replaced
        return [float(max_batched_tokens)]
    groups = min(width, SIZES_PER_BUCKET)
    return [bucket.above + 0.5 + width * (group + 0.5) / groups for group in range(groups)]
