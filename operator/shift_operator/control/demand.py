"""Demand: how many requests per second arrive, and how many will once a replica asked for now can serve.

    arrivals = finish rate + slope of the requests in the system

since vLLM counts no arrivals. Their level and slope are smoothed (Holt's method at uneven intervals), and the
forecast is level + slope * start time, upward only: traffic that falls is believed when it has fallen.

A mean says nothing of bursts, and an SLO that 95 % of the requests are to keep has to hold in them: a burst that lasts
longer than a request does is a load of its own. So what counts is the rate that the SLO's quantile of the requests come
at or below, with the counts of requests in spans of some 15 s as normally distributed:

    peak = rate * (1 + v^2 + z * v),   v^2 = (deviation^2 - CHANCE * mean) / mean^2,   from rate to MOST_BURST * rate

where z is the normal quantile, and v^2 is there because more requests come in a burst than beside it. What chance alone
does is taken off, so that even traffic has no peak: there the law's headroom is enough. This is square-root staffing
with a measured peakedness (Eckberg, "Generalized peakedness of teletraffic processes", 1983).
"""

from dataclasses import dataclass
from math import exp, sqrt
from statistics import NormalDist

from shift_operator.api.signals import Instant, Known, SpanCounts, Traffic

LEVEL_SECONDS = 60.0
"""Time constant of the level, the window over which Prometheus takes the rates."""

SLOPE_SECONDS = 180.0
"""Time constant of the slope: slower than the level, or noise reads as growth."""

MEMORY_SECONDS = 600.0
"""After a longer gap the old trend says nothing any more."""

HORIZON_SECONDS = 300.0
"""No forecast reaches further, however slowly a replica starts."""

MOST_GROWTH = 2.0
"""No forecast is above this multiple of the level."""

CHANCE = 4.0
"""Variance over mean of the counts below which they are no burst. Chance alone (Poisson) gives 2: `increase` stretches
two samples that are half a span apart over the whole. The samples of three windows show twice that once in fifty."""

FEWEST = 1e-9
"""Requests per span, on average, that count as none."""

MOST_BURST = 2.0
"""No peak is above this multiple of the rate: what comes in rarer and higher bursts, no steady number serves well."""


@dataclass(frozen=True, slots=True)
class Trend:
    """Smoothed arrivals at a moment: requests per second, and how fast that grows, per second."""

    at: Instant
    level: float
    slope: float = 0.0

    def updated(self, now: Instant, rate: float) -> "Trend":
        """The trend after a look at `now` that saw `rate`. A second look at one moment changes nothing."""
        elapsed = now - self.at
        if elapsed <= 0:
            return self
        if elapsed > MEMORY_SECONDS:
            return Trend(now, rate)
        expected = max(0.0, self.level + self.slope * elapsed)
        level = expected + (1 - exp(-elapsed / LEVEL_SECONDS)) * (rate - expected)
        seen_slope = (level - self.level) / elapsed
        slope = self.slope + (1 - exp(-elapsed / SLOPE_SECONDS)) * (seen_slope - self.slope)
        return Trend(now, level, slope)

    def ahead(self, seconds: float) -> float:
        """Requests per second to expect in `seconds`; never below the level."""
        grown = self.level + max(self.slope, 0.0) * min(max(seconds, 0.0), HORIZON_SECONDS)
        return min(grown, MOST_GROWTH * self.level)


def arrivals(traffic: Traffic, *, complete: bool) -> float | None:
    """Requests per second that arrive, or at least that many where the signals are not `complete`; None if unknown.

    The slope counts only when all pods report: a pod that drops out of sight takes its requests from the sum.
    """
    match traffic.finish_rate, traffic.in_system_slope:
        case Known(finished), Known(slope) if complete:
            return max(0.0, finished + slope)
        case Known(finished), _:
            return finished
        case _:
            return None


def peak(rate: float, counts: SpanCounts | None, quantile: float) -> float:
    """The requests per second at or below which `quantile` of the requests come; the mean rate itself where they come
    evenly, or where no counts are known."""
    if counts is None or counts.mean < FEWEST:
        return rate
    variation = counts.deviation / counts.mean
    excess = min(max(variation * variation - CHANCE / counts.mean, 0.0), MOST_BURST)  # inf * 0 would be no number
    return rate * min(1 + excess + NormalDist().inv_cdf(quantile) * sqrt(excess), MOST_BURST)
