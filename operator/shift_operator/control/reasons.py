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
    FALLBACK = "Fallback"  # moved to the spec's: unknown for longer than the policy's fallbackAfterSeconds


class ThresholdLimit(StrEnum):
    """What kept the threshold from the value the law wanted."""

    RANGE_MINIMUM = "RangeMinimum"  # the range's minimum is higher
    RANGE_MAXIMUM = "RangeMaximum"  # the range's maximum is lower
    MAX_BATCHED_TOKENS = "MaxBatchedTokens"  # at the engine's max-num-batched-tokens no step is ever sequence-parallel


class ReplicasReason(StrEnum):
    """Why the number of replicas is what it is."""

    DEMAND = "Demand"  # the fewest replicas that keep the SLO at the predicted demand
    QUEUE_GROWS = "QueueGrows"  # raised: requests wait, and the replicas that there are would not clear them in time
    KV_CACHE_FULL = "KVCacheFull"  # raised: requests wait while the KV cache is full
    SLO_MISSED = "SLOMissed"  # raised by one: the SLO is measured as missed where the model says it is kept
    IDLE = "Idle"  # lowered: no request for longer than idle.afterSeconds
    ASLEEP = "Asleep"  # held at idle.replicas: no request has asked for it yet
    WOKEN = "Woken"  # raised: a request asks for a deployment that sleeps
    OUTSIDE_BOUNDS = "OutsideBounds"  # moved: the replicas lay outside minReplicas and maxReplicas
    STABILIZING = "Stabilizing"  # held: more were wanted within the stabilisation window, or it is not yet full
    SCALE_DOWN_UNSAFE = "ScaleDownUnsafe"  # held: one replica fewer fails the N/(N-1) test; the evidence says which
    FALLBACK = "Fallback"  # raised: unknown for longer than fallbackAfterSeconds, so the policy's fallback holds
    SIGNALS_MISSING = "SignalsMissing"  # held: a needed series is absent or not a number; the evidence names it
    SIGNALS_STALE = "SignalsStale"  # held: a needed series is older than allowed
    SIGNALS_PARTIAL = "SignalsPartial"  # held: fewer pods report than are ready
    PROMETHEUS_UNREACHABLE = "PrometheusUnreachable"  # held: the query failed; the evidence has its error
    NO_PERFORMANCE_MODEL = "NoPerformanceModel"  # held: no step-time curve, so the capacity of a replica is unknown


class ReplicasLimit(StrEnum):
    """What kept the replicas from the number the law wanted."""

    MIN_REPLICAS = "MinReplicas"  # minReplicas is higher
    MAX_REPLICAS = "MaxReplicas"  # maxReplicas is lower
    STABILIZATION = "Stabilization"  # the stabilisation window holds a higher number
    SCALE_DOWN_TESTS = "ScaleDownTests"  # fewer replicas fail the N/(N-1) test; the evidence says which half of it
    SCALE_UP_RATE = "ScaleUpRate"  # one decision adds no more than this
    CLUSTER_BUDGET = "ClusterBudget"  # the policy's GPUs are in use
    NAMESPACE_BUDGET = "NamespaceBudget"  # the namespace's GPUs are in use
    GUARANTEES = "Guarantees"  # the GPUs left are guaranteed to other namespaces


class DegreeReason(StrEnum):
    """Why the degree is what it is."""

    LESS_STEP_TIME = "LessStepTime"  # moved: the observed steps take less time at the new degree, and have for long
    BEST_ALREADY = "BestAlready"  # held: no other candidate takes less time
    GAIN_TOO_SMALL = "GainTooSmall"  # held: another one would, but by less than the gain that is worth a change
    GAIN_TOO_YOUNG = "GainTooYoung"  # held: the gain has not yet held for long enough
    KV_CACHE_TOO_SMALL = "KVCacheTooSmall"  # held: each better candidate leaves less KV cache than the demand needs
    ANOTHER_CHANGES = "AnotherChanges"  # held: another deployment of the cluster is changing its degree
    NOT_A_CANDIDATE = "NotACandidate"  # held: the present degree is none of the candidates, and none is better
    TOO_FEW_STEPS = "TooFewSteps"  # held: too few steps ran in the window to judge by
    SIGNALS_MISSING = "SignalsMissing"  # held: a needed series is absent or not a number; the evidence names it
    SIGNALS_STALE = "SignalsStale"  # held: a needed series is older than allowed
    SIGNALS_PARTIAL = "SignalsPartial"  # held: fewer pods report than are ready, or a candidate has no curve
    PROMETHEUS_UNREACHABLE = "PrometheusUnreachable"  # held: the query failed; the evidence has its error
    FALLBACK = "Fallback"  # moved to the spec's: unknown for longer than the policy's fallbackAfterSeconds


class DegreeLimit(StrEnum):
    """What kept the degree from the one the law wanted."""

    KV_CACHE = "KVCache"  # the wanted degree leaves too little KV cache
    DWELL = "Dwell"  # its gain has not held for long enough
    ONE_AT_A_TIME = "OneAtATime"  # another deployment is changing
