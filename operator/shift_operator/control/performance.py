"""The performance model: what one replica can take of the present mix of requests before the SLO breaks.

The step-time law, for a step of n batched tokens that serves B requests whose caches hold KV tokens:

    t(n) = s(n) + c * (KV tokens read) + q * (pairs of a new and an earlier token) + h * B

s is the step-time curve that the engine measured: of the small degree up to the threshold, of the large one above. It
contains the law's constant, its weight-reading floor and its cost per token. c, q and h are attention's and the host's
share, which a calibration at short contexts does not see. The operator leaves them at 0: live steps move the engine's
curves by what they took at the contexts of the present traffic, so it would count them twice (docs/decisions/0017).

At an even load each step of n tokens takes x = n / (I + O) requests one step further, where I is the computed part of
the prompt and O the answer: I prompt tokens are computed and O tokens are decoded per request. Hence, without solving
anything, B = O * x requests run, and lambda(n) = x / t(n) requests per second are served with a TPOT of t(n). The
capacity is the highest lambda(n) over the n that keep the limits: n within the step, B within the sequences, the KV
cache holding the B contexts, and TPOT and TTFT within the SLO. The time to first token is the prefill S, half a step
and the wait, whose quantile p is that of M/M/1 with the load rho: S / (1 - rho) * ln(rho / (1 - p)).

This is a mean-field model: it takes each step at the mean size, where real steps are small decodes or large prefills.
`corrected` learns the error from the measured TPOT, within guards. What is left, headroom and the SLO's own
attainment have to cover.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import lru_cache
from itertools import accumulate
from math import ceil, exp, inf, isfinite, log
from typing import NamedTuple

from shift_operator.control.curves import Curve

KV_SHARE = 0.9
"""Share of the KV cache to plan with: above it vLLM begins to preempt requests and to compute them again."""

SATURATION_SHARE = 0.85
"""Share of the highest throughput to plan with where no SLO asks for less: at 1 the queue never ends."""

CORRECTION_LOW, CORRECTION_HIGH = 0.3, 3.0
"""A measured TPOT outside these multiples of the prediction says that something else is wrong, and teaches nothing."""

CORRECTION_SECONDS = 300.0
"""Time constant of learning: a new ratio counts for 63 % after it."""

GRID = 48
"""Step sizes tried between one token and the largest step, spaced by equal factors: neighbours differ by about 20 %."""


@dataclass(frozen=True, slots=True)
class Mix:
    """The requests as they are at present. Unit: tokens per request, means. At least one is computed, one answered."""

    prompt: float
    computed: float
    output: float

    @classmethod
    def of(cls, prompt: float, output: float, prefix_hit_ratio: float) -> "Mix":
        """Mean prompt and answer, and the share of prompt tokens that the prefix cache has."""
        return cls(prompt=max(prompt, 1.0), computed=max(prompt * (1 - prefix_hit_ratio), 1.0), output=max(output, 1.0))

    @property
    def pairs(self) -> float:
        """Pairs of a computed token and an earlier one of its request."""
        return self.computed * (self.prompt - self.computed / 2)


@dataclass(frozen=True, slots=True)
class Slo:
    """What the user promises: limits in seconds at a quantile of the requests. None: no such promise."""

    ttft_seconds: float | None = None
    tpot_seconds: float | None = None
    quantile: float = 0.95

    @property
    def promises(self) -> bool:
        """Whether there is a limit at all."""
        return self.ttft_seconds is not None or self.tpot_seconds is not None


@dataclass(frozen=True, slots=True)
class PerfModel:
    """One replica at one degree and threshold. Times in seconds, memory in tokens."""

    small: Curve
    large: Curve
    threshold_tokens: int
    max_batched_tokens: int
    max_sequences: int
    kv_capacity_tokens: float
    kv_read_seconds: float = 0.0
    """c: seconds per KV token that a decode reads."""
    pair_seconds: float = 0.0
    """q: seconds per pair of a prompt token and an earlier token of its request."""
    request_seconds: float = 0.0
    """h: seconds of the host per request in a step."""
    correction: float = field(default=1.0, compare=False)
    """Measured over predicted step time, as `corrected` learned it: of each step alike, whatever its size."""

    def curve_seconds(self, sizes: Sequence[float]) -> list[float]:
        """s(n), uncorrected, of ascending sizes: each on the curve of the degree that the threshold gives it."""
        switch = bisect_right(sizes, self.threshold_tokens)
        return self.small.seconds_of(sizes[:switch]) + self.large.seconds_of(sizes[switch:])

    def step_seconds(self, sizes: Sequence[float], mix: Mix) -> list[float]:
        """t(n), uncorrected: the mean steps at even loads of so many tokens per step, ascending."""
        seconds = self.curve_seconds(sizes)
        # All that a curve does not see grows with the requests that a step takes one further, x = n / (I + O).
        kv_read = mix.output * (mix.prompt + mix.output / 2)
        rest = self.kv_read_seconds * kv_read + self.pair_seconds * mix.pairs + self.request_seconds * mix.output
        if not rest:
            return seconds
        per_token = rest / (mix.computed + mix.output)
        return [each + per_token * n for each, n in zip(seconds, sizes, strict=True)]


class CapacityBound(StrEnum):
    """What ends a replica's capacity first."""

    TTFT = "TTFT"
    TPOT = "TPOT"
    KV_CACHE = "KVCache"
    SEQUENCES = "Sequences"
    SATURATION = "Saturation"
    SLO_UNREACHABLE = "SLOUnreachable"  # even one request alone misses it: more replicas do not help


@dataclass(frozen=True, slots=True)
class Capacity:
    """What one replica takes: requests per second, the TPOT it then has in seconds, and what ends it."""

    requests_per_second: float
    tpot_seconds: float
    bound: CapacityBound


def capacity(model: PerfModel, mix: Mix, slo: Slo) -> Capacity:
    """The highest rate at which one replica keeps the SLO on this mix; always positive.

    Where the SLO is out of reach at any load, it is the share of the saturated rate that keeps the queue finite.
    """
    loads, times = _uncorrected_loads(model, mix), model.correction
    saturated, end = loads.rates[-1], loads.end or CapacityBound.SATURATION
    full = SATURATION_SHARE * saturated
    light = bisect_right(loads.rates, full)
    kept, broken = _kept(model, mix, slo, loads, light, saturated)
    if kept == 0:  # not even the lightest load keeps the SLO, or that load is the saturated one already
        _, out_of_reach = _kept(model, mix, slo, loads, 1, inf)
        bound = CapacityBound.SLO_UNREACHABLE if out_of_reach else end
        return Capacity(full / times, times * loads.seconds[0], bound)
    rate = full if broken is None else loads.rates[kept - 1]
    return Capacity(rate / times, times * loads.seconds[kept - 1], broken or end)


def predicted_tpot(model: PerfModel, mix: Mix, requests_per_second: float) -> float | None:
    """Seconds per output token of one replica at this rate; None where it cannot serve that rate at all."""
    seconds = _uncorrected_tpot(model, mix, requests_per_second * model.correction)
    return None if seconds is None else model.correction * seconds


def corrected(model: PerfModel, mix: Mix, *, rate: float, measured_tpot: float, elapsed_seconds: float) -> PerfModel:
    """The model after one more look at a replica that serves `rate` requests per second.

    Guards: a ratio outside [0.3, 3] of the uncorrected prediction is not learned from, and so is a rate that the model
    cannot serve, since a saturated replica's TPOT says nothing of its step. A look counts for the time it stands for.
    """
    predicted = _uncorrected_tpot(model, mix, rate)
    if predicted is None or elapsed_seconds <= 0 or not isfinite(measured_tpot):
        return model
    ratio = measured_tpot / predicted
    if not CORRECTION_LOW <= ratio <= CORRECTION_HIGH:
        return model
    weight = 1 - exp(-elapsed_seconds / CORRECTION_SECONDS)
    learned = model.correction + weight * (ratio - model.correction)
    return replace(model, correction=min(max(learned, CORRECTION_LOW), CORRECTION_HIGH))


class _Loads(NamedTuple):
    """Even loads, at least one: tokens per step, the step's seconds, requests per second, each ascending. `end`: the
    hard limit just above the last."""

    tokens: list[float]
    seconds: list[float]
    rates: list[float]
    end: CapacityBound | None


@lru_cache(maxsize=4)
def _uncorrected_loads(model: PerfModel, mix: Mix) -> _Loads:
    """Loads up to the first hard limit, by a model without its correction.

    A load that serves fewer requests than a lighter one is left out: no replica has to run there. Kept, since learning
    a correction and asking for the capacity take the same ones.
    """
    per_request = mix.computed + mix.output
    running_per_token = mix.output / per_request
    limits = (
        (float(model.max_batched_tokens), None),
        (model.max_sequences / running_per_token, CapacityBound.SEQUENCES),
        (
            KV_SHARE * model.kv_capacity_tokens / (running_per_token * (mix.prompt + mix.output / 2)),
            CapacityBound.KV_CACHE,
        ),
    )
    most, end = min(limits, key=lambda limit: limit[0])
    least = min(1.0, most)
    sizes = [least * (most / least) ** (index / GRID) for index in range(GRID + 1)]
    found = _Loads([], [], [], end)
    best = 0.0
    # A larger step that a noisy curve makes faster still costs what the smaller one did.
    for tokens, seconds in zip(sizes, accumulate(model.step_seconds(sizes, mix), max), strict=True):
        rate = tokens / per_request / seconds
        if rate > best:
            best = rate
            found.tokens.append(tokens)
            found.seconds.append(seconds)
            found.rates.append(rate)
    return found


def _uncorrected_tpot(model: PerfModel, mix: Mix, rate: float) -> float | None:
    """Seconds of the lightest step that serves this rate by the curves alone; None where none does."""
    loads = _uncorrected_loads(model, mix)
    lightest = bisect_left(loads.rates, rate)
    return loads.seconds[lightest] if lightest < len(loads.rates) else None


def _kept(
    model: PerfModel, mix: Mix, slo: Slo, loads: _Loads, count: int, saturated: float
) -> tuple[int, CapacityBound | None]:
    """How many of the lightest `count` loads keep the SLO under the model, and what the next one of them breaks.

    `saturated`: the rate at which a queue never ends, uncorrected.
    """
    times, kept, broken = model.correction, count, None
    if slo.tpot_seconds is not None:
        kept = bisect_right(loads.seconds, slo.tpot_seconds, hi=count, key=lambda seconds: times * seconds)
        broken = CapacityBound.TPOT if kept < count else None
    if slo.ttft_seconds is not None:
        for index, seconds in enumerate(_ttft(model, mix, slo.quantile, loads, kept, saturated)):
            if times * seconds > slo.ttft_seconds:
                return index, CapacityBound.TTFT
    return kept, broken


def _ttft(model: PerfModel, mix: Mix, quantile: float, loads: _Loads, count: int, saturated: float) -> Iterator[float]:
    """Seconds to the first token, uncorrected, at each of the lightest `count` loads: half a step, the prefill, the
    wait."""
    largest, share = model.max_batched_tokens, mix.output / (mix.computed + mix.output)
    attention = model.pair_seconds * mix.pairs
    # Decodes go first, and a prompt takes what they leave of a step, in as many as it needs.
    decoding = [min(tokens * share, largest - 1) for tokens in loads.tokens[:count]]
    steps = model.curve_seconds([min(tokens + mix.computed, largest) for tokens in decoding])
    for taken, step, seconds, rate in zip(decoding, steps, loads.seconds, loads.rates, strict=False):
        prefill = ceil(mix.computed / (largest - taken)) * step + attention
        load = rate / saturated
        waits = 1 - quantile < load < 1
        yield seconds / 2 + prefill + (prefill / (1 - load) * log(load / (1 - quantile)) if waits else 0.0)
