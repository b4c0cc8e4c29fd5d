"""Step-time curves: how long a step of n batched tokens takes at one degree, and where one degree overtakes another."""

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from math import floor

from shift_operator.api.signals import CurvePoint


@dataclass(frozen=True, slots=True)
class Curve:
    """A step-time curve through measured points, by ascending tokens; at least two of them.

    Between two points it is linear. Below the first it is flat: a step of few tokens takes the time to read the
    weights, however few they are. Above the last it goes on with the last segment's slope, but never falls: a noisy
    last point must not promise that a larger step is free.
    """

    points: tuple[CurvePoint, ...]
    _ends: list[int] = field(init=False, repr=False, compare=False)
    """Where each piece but the last ends, in tokens: that size is the next piece's."""
    _pieces: list[tuple[int, float, float]] = field(init=False, repr=False, compare=False)
    """Straight pieces by ascending tokens: tokens and seconds where it starts, seconds per token from there on."""

    def __post_init__(self) -> None:
        slopes = [
            (right.seconds - left.seconds) / (right.tokens - left.tokens) for left, right in pairwise(self.points)
        ]
        rising = [(*point, slope) for point, slope in zip(self.points, (*slopes, max(slopes[-1], 0.0)), strict=True)]
        object.__setattr__(self, "_ends", [point.tokens for point in self.points])
        object.__setattr__(self, "_pieces", [(0, self.points[0].seconds, 0.0), *rising])

    def seconds(self, tokens: float) -> float:
        """Seconds that a step of `tokens` batched tokens takes."""
        return self.seconds_of((tokens,))[0]

    def seconds_of(self, sizes: Iterable[float]) -> list[float]:
        """The same for many steps."""
        ends, pieces = self._ends, self._pieces
        return [
            seconds + slope * (size - start)
            for size in sizes
            for start, seconds, slope in (pieces[bisect_right(ends, size)],)
        ]


@lru_cache(maxsize=64)
def curve_through(points: tuple[CurvePoint, ...]) -> Curve | None:
    """The curve; None where there are not two points. Kept, since several laws ask for the same ones in a row."""
    return Curve(points) if len(points) >= 2 else None


@lru_cache(maxsize=8)
def crossings(small: Curve, large: Curve, max_tokens: int) -> tuple[int, ...]:
    """Each n in [1, max_tokens] at which `large` becomes the faster one, ascending.

    Real curves can cross more than once, since matrix tiles make them staircases. n = 1 is in it when `large` is the
    faster one from the start. Kept, since the crossover is one of them.
    """
    ends = {1, max_tokens} | {point.tokens for curve in (small, large) for point in curve.points}
    tokens = sorted(n for n in ends if 1 <= n <= max_tokens)
    lead = [ahead - behind for ahead, behind in zip(large.seconds_of(tokens), small.seconds_of(tokens), strict=True)]
    found = [1] if lead[0] < 0 else []
    for left, right, before, after in zip(tokens, tokens[1:], lead, lead[1:], strict=False):
        if before >= 0 > after:
            # Both are linear here, and so is their difference: 0 at the root, negative from the next whole token on.
            # A root a rounding error below a whole token is that token.
            root = left + (right - left) * before / (before - after)
            found.append(min(floor(root + 1e-6) + 1, right))
    return tuple(found)


def crossover(small: Curve, large: Curve, max_tokens: int) -> int | None:
    """The smallest n from which `large` stays faster up to `max_tokens`; None where it is not faster in the end."""
    if large.seconds(max_tokens) >= small.seconds(max_tokens):
        return None
    return crossings(small, large, max_tokens)[-1]
