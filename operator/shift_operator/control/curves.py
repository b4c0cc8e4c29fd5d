"""Step-time curves: how long a step of n batched tokens takes at one degree, and where one degree overtakes another."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
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
    _tokens: list[int] = field(init=False, repr=False, compare=False)
    _slopes: list[float] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        slopes = [
            (right.seconds - left.seconds) / (right.tokens - left.tokens) for left, right in pairwise(self.points)
        ]
        object.__setattr__(self, "_tokens", [point.tokens for point in self.points])
        object.__setattr__(self, "_slopes", [*slopes, max(slopes[-1], 0.0)])

    def seconds(self, tokens: float) -> float:
        """Seconds that a step of `tokens` batched tokens takes."""
        right = bisect_right(self._tokens, tokens)
        if right == 0:
            return self.points[0].seconds
        left = self.points[right - 1]
        return left.seconds + self._slopes[right - 1] * (tokens - left.tokens)

    def seconds_of(self, sizes: Sequence[float]) -> list[float]:
        """The same for many steps, by ascending tokens: piece by piece of the curve."""
        first = bisect_left(sizes, self._tokens[0])
        found = [self.points[0].seconds] * first
        for (tokens, seconds), slope, end in zip(self.points, self._slopes, (*self._tokens[1:], None), strict=True):
            last = len(sizes) if end is None else bisect_left(sizes, end, first)
            found += [seconds + slope * (size - tokens) for size in sizes[first:last]]
            first = last
        return found


@lru_cache(maxsize=64)
def curve_through(points: tuple[CurvePoint, ...]) -> Curve | None:
    """The curve; None where there are not two points. Kept, since several laws ask for the same ones in a row."""
    return Curve(points) if len(points) >= 2 else None


def crossings(small: Curve, large: Curve, max_tokens: int) -> tuple[int, ...]:
    """Each n in [1, max_tokens] at which `large` becomes the faster one, ascending.

    Real curves can cross more than once, since matrix tiles make them staircases. n = 1 is in it when `large` is the
    faster one from the start.
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
