"""Step-time curves: how long a step of n tokens takes at a degree. Pure: calibration and clocks are elsewhere."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .degree import Degree
from .schedule import MAX_RANGES, TokenRange

SLOWEST, FASTEST = 3.0, 0.3  # live timings move a point between these multiples of its calibration, never further
SMOOTHING = 1 / 32  # weight of one live step
SHARED_STEPS = 16.0  # so many live steps of its own make a degree's drift half its own, half the shared one


def calibration_sizes(max_tokens: int, largest_graph: int | None = None) -> tuple[int, ...]:
    """About ten step sizes up to `max_tokens`: decodes, then doublings, where the crossover lies.

    `largest_graph`: the largest step that the host replays as one graph, where it has graphs. The next larger one is
    launched in pieces, which a straight line to the next doubling would hide, so both are among the sizes.
    """
    sizes = [1, 8, 32]
    while sizes[-1] < max_tokens:
        sizes.append(sizes[-1] * 2)
    edge = [] if largest_graph is None else [largest_graph, largest_graph + 1]
    return (*sorted({n for n in (*sizes, *edge) if n < max_tokens}), max_tokens)


def interpolated(sizes: Sequence[int], seconds: Sequence[float], tokens: int) -> float:
    """Seconds at `tokens`, linear between the points; the first point's below them, in proportion to n above them."""
    i = bisect_left(sizes, tokens)
    if i == 0:
        return seconds[0]
    if i == len(sizes):
        return seconds[-1] * tokens / sizes[-1]
    left, right = sizes[i - 1], sizes[i]
    return seconds[i - 1] + (seconds[i] - seconds[i - 1]) * (tokens - left) / (right - left)


def crossover_tokens(sizes: Sequence[int], small: Sequence[float], large: Sequence[float]) -> int | None:
    """The smallest n from which `large` stays faster than `small`, None where it is slower at the largest size."""
    if not sizes or large[-1] >= small[-1]:
        return None
    i = len(sizes) - 1
    while i > 0 and large[i - 1] < small[i - 1]:
        i -= 1
    if i == 0:
        return sizes[0]
    behind, ahead = large[i - 1] - small[i - 1], small[i] - large[i]
    return int(sizes[i - 1] + (sizes[i] - sizes[i - 1]) * behind / (behind + ahead)) + 1


def fastest_ranges(sizes: Sequence[int], curves: Mapping[Degree, Sequence[float]]) -> tuple[TokenRange, ...]:
    """The schedule of the curves: the largest steps run at the degree that is fastest there, down to the size from
    which it stays so; below that come the degrees with less sequence parallelism, in the same way.

    So the sequence parallelism only grows with n, as the paper has it, and noise between two crossings makes no range.
    """
    ranges: tuple[TokenRange, ...] = ()
    bound: int | None = None
    while True:
        best = min(curves, key=lambda degree: (curves[degree][-1], degree.sequence))
        curves_below = {degree: points for degree, points in curves.items() if degree.sequence < best.sequence}
        first = max((crossover_tokens(sizes, points, curves[best]) or 1 for points in curves_below.values()), default=1)
        ranges = (TokenRange(bound, best), *ranges)
        if first <= 1 or not curves_below or len(ranges) == MAX_RANGES:
            return ranges
        bound = first - 1
        below = (*(n for n in sizes if n < bound), bound)
        curves = {d: [interpolated(sizes, points, n) for n in below] for d, points in curves_below.items()}
        sizes = below


@dataclass
class _Drift:
    """How live steps of one degree compare with its calibration in one size bucket."""

    ratio: float = 1.0
    steps: int = 0


@dataclass
class StepTimeCurves:
    """The calibrated points of each degree, refined by live steps.

    A live step multiplies the point nearest to its size by a slow average of measured / calibrated. What moves a point
    is mostly common to all degrees (longer contexts, a slower clock), and one degree runs nearly all steps of a bucket:
    so a degree without live steps of its own there takes over the others' drift. Else the degree in use would look
    slower than the one that nobody measures.
    """

    sizes: tuple[int, ...] = ()
    calibrated: Mapping[Degree, tuple[float, ...]] = field(default_factory=dict)  # seconds, one per size
    _drift: dict[tuple[Degree, int], _Drift] = field(default_factory=dict)

    def observe(self, degree: Degree, tokens: int, seconds: float) -> None:
        """Refine by one live step of `tokens` tokens. Without a calibration there is nothing to refine."""
        if degree not in self.calibrated or seconds <= 0:
            return
        expected = interpolated(self.sizes, self.calibrated[degree], tokens)
        key = (degree, self._bucket(tokens))
        drift = self._drift.get(key)
        if drift is None:
            drift = self._drift[key] = _Drift()
        drift.steps += 1
        drift.ratio += SMOOTHING * (_bounded(seconds / expected) - drift.ratio)

    def seconds(self, degree: Degree) -> tuple[float, ...]:
        """The refined curve: seconds of a step at each of `sizes`."""
        return tuple(s * self._ratio(degree, i) for i, s in enumerate(self.calibrated[degree]))

    def crossover(self, large: Degree) -> int | None:
        """The crossover between 1 x P and `large`, in tokens; None where `large` never wins or was not timed."""
        small = Degree.full_tensor(large.gpus)
        if large == small or large not in self.calibrated or small not in self.calibrated:
            return None
        return crossover_tokens(self.sizes, self.seconds(small), self.seconds(large))

    def fastest_ranges(self) -> tuple[TokenRange, ...]:
        """The schedule that the refined curves ask for."""
        return fastest_ranges(self.sizes, {degree: self.seconds(degree) for degree in self.calibrated})

    def add(self, degree: Degree, seconds: Sequence[float]) -> None:
        """A degree that came later, with a point for each of `sizes`."""
        self.calibrated = {**self.calibrated, degree: tuple(seconds)}

    def _ratio(self, degree: Degree, bucket: int) -> float:
        seen = [(d, drift) for d in self.calibrated if (drift := self._drift.get((d, bucket))) is not None]
        steps = sum(drift.steps for _, drift in seen)
        if steps == 0:
            return 1.0
        shared = sum(drift.ratio * drift.steps for _, drift in seen) / steps
        own = self._drift.get((degree, bucket), _Drift())
        return (own.ratio * own.steps + shared * SHARED_STEPS) / (own.steps + SHARED_STEPS)

    def _bucket(self, tokens: int) -> int:
        """The index of the size nearest to `tokens` by ratio."""
        i = bisect_left(self.sizes, tokens)
        if i == 0 or i == len(self.sizes):
            return min(i, len(self.sizes) - 1)
        return i if tokens * tokens > self.sizes[i - 1] * self.sizes[i] else i - 1


def _bounded(ratio: float) -> float:
    return min(max(ratio, FASTEST), SLOWEST)
