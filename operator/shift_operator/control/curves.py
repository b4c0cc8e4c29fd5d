"""Step-time curves: how long a step of n batched tokens takes at one degree, and where one degree overtakes another."""

from bisect import bisect_right
from dataclasses import dataclass
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

    def seconds(self, tokens: float) -> float:
        """Seconds that a step of `tokens` batched tokens takes."""
        right = bisect_right(self.points, tokens, key=_tokens)
        if right == 0:
            return self.points[0].seconds
        right_of_all = right == len(self.points)
        left, right_point = self.points[-2:] if right_of_all else self.points[right - 1 : right + 1]
        slope = (right_point.seconds - left.seconds) / (right_point.tokens - left.tokens)
        if right_of_all:
            return right_point.seconds + max(slope, 0.0) * (tokens - right_point.tokens)
        return left.seconds + slope * (tokens - left.tokens)


def crossings(small: Curve, large: Curve, max_tokens: int) -> tuple[int, ...]:
    """Each n in [1, max_tokens] at which `large` becomes the faster one, ascending.

    Real curves can cross more than once, since matrix tiles make them staircases. n = 1 is in it when `large` is the
    faster one from the start.
    """
    ends = {1, max_tokens} | {point.tokens for curve in (small, large) for point in curve.points}
    tokens = sorted(n for n in ends if 1 <= n <= max_tokens)
    lead = [large.seconds(n) - small.seconds(n) for n in tokens]
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


def _tokens(point: CurvePoint) -> int:
    return point.tokens
