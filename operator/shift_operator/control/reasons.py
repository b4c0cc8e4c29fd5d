"""Why a knob moved or stayed.

A reason is at once a status reason, an event reason and a metric label, so these lists only grow.

docs/reasons.md explains each; a test holds the two together.
"""

from enum import StrEnum


class ThresholdReason(StrEnum):
    """Why the threshold is what it is."""

    LESS_STEP_TIME = "LessStepTime"  # moved: the observed steps take less time in all at the new threshold
    OUTSIDE_RANGE = "OutsideRange"  # moved: the threshold lay outside its range, so it went to the nearest bound
    BEST_ALREADY = "BestAlready"  # held: no other threshold in the range takes less time
    GAIN_TOO_SMALL = "GainTooSmall"  # held: another one would, but by less than the gain that is worth a change
    TOO_FEW_STEPS = "TooFewSteps"  # held: idle or nearly so; too few steps ran in the window to judge by
    RANGE_ABOVE_STEPS = "RangeAboveSteps"  # held: no step can be larger than the range's minimum, no choice is left
    SIGNALS_MISSING = "SignalsMissing"  # held: a needed series is absent or not a number; the evidence names it
    SIGNALS_STALE = "SignalsStale"  # held: a needed series is older than allowed
    SIGNALS_PARTIAL = "SignalsPartial"  # held: fewer pods report than are ready, or a curve or histogram has gaps
    PROMETHEUS_UNREACHABLE = "PrometheusUnreachable"  # held: the query failed; the evidence has its error


class ThresholdLimit(StrEnum):
    """What kept the threshold from the value the law wanted."""

    RANGE_MINIMUM = "RangeMinimum"  # the range's minimum is higher
    RANGE_MAXIMUM = "RangeMaximum"  # the range's maximum is lower
    MAX_BATCHED_TOKENS = "MaxBatchedTokens"  # at the engine's max-num-batched-tokens no step is ever sequence-parallel
