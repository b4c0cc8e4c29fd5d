"""The replicas that the law picks on real traffic, against the fewest that keep the SLO there.

    .venv/control/bin/python benchmarks/capacity_law.py TRACE.csv[:COPIES] ... [--window-seconds S] [--write]

A trace is cut into windows. For each, the law says from the window's means how many replicas its rate takes
(control/performance.py), and how many more in bursts like those of the last minutes (control/demand.py). A queue of
single requests says how many it really takes: those are added until a window's requests keep the SLO at its quantile.
The queue is vLLM's scheduler in outline: steps of at most so many tokens, decodes first, then prompts in chunks and in
order; a request is let in when the KV cache has room for all of it; each request goes to the replica with the fewest.

These two columns' law has the queue's own step times, those of a 70B model in FP8 on 8 H100s with a switching
threshold. The operator has less: its curves lack attention's terms, but the engine refines them by live steps, and it
learns from the TPOT that it measures; the column has the number at which it comes to rest. The last two have the same
with the terms instead of live curves, and with neither. The demand is the window's own mean rate, so forecasts are not
tested here, and neither is a real engine.

A trace is the CSV of the Azure LLM inference traces (TIMESTAMP, ContextTokens, GeneratedTokens), or one with the
columns t_ms, in_tokens, out_tokens. Of `:32` there are so many copies of it laid over each other, shifted by equal
parts of its length: the rate grows, and what one user does stays as bursty as it was. `--write` puts the table into
docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil, floor
from pathlib import Path
from statistics import fmean, pstdev
from typing import NamedTuple

import page
from replica_queue import Drift, Replica, Request, laid_over, read_trace
from shift_operator.api.signals import CurvePoint, SpanCounts
from shift_operator.control.curves import Curve
from shift_operator.control.demand import peak
from shift_operator.control.performance import Mix, PerfModel, Slo, capacity, corrected
from shift_operator.control.scaling import ReplicaLaw
from shift_operator.prometheus.query import DEFAULT_WINDOW_SECONDS
from shift_operator.prometheus.traffic_query import MIX_WINDOWS

HEAD = (
    "| trace | requests/s | windows | needed | by means | and bursts | the operator | "
    "right / fewer / more | lowest attainment | with attention's terms | without live curves |",
    "|---|---|---|---|---|---|---|---|---|---|---|",
)

SCRAPE_SECONDS = 15
SLO = Slo(ttft_seconds=2.0, tpot_seconds=0.05, quantile=0.95)
MOST_REPLICAS = 64


def curve(*points: tuple[int, float]) -> Curve:
    return Curve(tuple(CurvePoint(tokens, milliseconds / 1000) for tokens, milliseconds in points))


# Linear layers and collectives of a 70B model in FP8 on 8 H100s, tensor- and sequence-parallel, as measured by NVIDIA's
# aiconfigurator (Apache-2.0). A KV token is 80 layers * 8 heads * 128 * 2 * 2 bytes = 328 kB over 8 GPUs, read at 80 %
# of 3.35 TB/s; a pair is 4 * 64 heads * 128 * 80 layers FLOPs over 8 GPUs at 400 TFLOP/s.
MODEL = PerfModel(
    small=curve((8, 6.4), (256, 12.3), (512, 18.5), (768, 25.9), (1024, 33.5), (4096, 122.9)),
    large=curve((8, 27.3), (256, 29.8), (512, 30.1), (768, 32.2), (1024, 31.6), (4096, 62.6)),
    threshold_tokens=900,
    max_batched_tokens=8192,
    max_sequences=256,
    kv_capacity_tokens=1_200_000.0,
    kv_read_seconds=328e3 / (8 * 0.8 * 3.35e12),
    pair_seconds=4 * 64 * 128 * 80 / (8 * 400e12),
    request_seconds=20e-6,
)


class Served(NamedTuple):
    """What became of a window's requests: the shares that kept TTFT and TPOT, the mean TPOT in seconds, and the
    step-time curves as the engines then have them."""

    ttft: float
    tpot: float
    tpot_seconds: float
    small: Curve
    large: Curve

    @property
    def attainment(self) -> float:
        return min(self.ttft, self.tpot)


@dataclass(frozen=True)
class Window:
    """The requests to judge, those before that warm the replicas up, and how bursty the last minutes are."""

    warming: Sequence[Request]
    judged: Sequence[Request]
    seconds: float
    counts: SpanCounts

    @classmethod
    def of(cls, trace: Sequence[Request], begin: float, seconds: float) -> Window:
        end = begin + seconds
        judged = [request for request in trace if begin <= request.at < end]
        warming = [request for request in trace if begin - seconds / 4 <= request.at < begin]
        span, past = SCRAPE_SECONDS, MIX_WINDOWS * DEFAULT_WINDOW_SECONDS
        counts = [0] * (past // span)
        for request in trace:
            if end - past <= request.at < end:
                counts[int((request.at - end + past) / span)] += 1
        # As the query gives them: what two samples differ by, stretched over a span that is twice as long.
        return cls(warming, judged, seconds, SpanCounts(2 * fmean(counts), 2 * pstdev(counts)))

    @property
    def rate(self) -> float:
        """Requests per second."""
        return len(self.judged) / self.seconds

    @property
    def mix(self) -> Mix:
        return Mix.of(fmean(r.prompt for r in self.judged), fmean(r.output for r in self.judged), 0.0)

    def served(self, replicas: int) -> Served:
        """By so many replicas."""
        small, large = Drift(MODEL.small), Drift(MODEL.large)
        engines = [Replica(MODEL, small, large) for _ in range(replicas)]
        for request in (*self.warming, *self.judged):
            for engine in engines:
                engine.run_until(request.at)
            min(engines, key=lambda engine: engine.in_system).add(request)
        for engine in engines:
            engine.run_until(float("inf"))
        begin = self.judged[0].at
        judged = [entry for engine in engines for entry in engine.finished if entry[0].at >= begin]
        assert SLO.ttft_seconds is not None
        assert SLO.tpot_seconds is not None
        return Served(
            fmean(ttft <= SLO.ttft_seconds for _, ttft, _ in judged),
            fmean(tpot <= SLO.tpot_seconds for _, _, tpot in judged),
            fmean(tpot for _, _, tpot in judged),
            small.refined(),
            large.refined(),
        )


class Judge:
    """A window and what became of it with each number of replicas that was tried."""

    def __init__(self, window: Window) -> None:
        self.window = window
        self.served = lru_cache(maxsize=None)(window.served)

    def keeps(self, replicas: int) -> bool:
        return self.served(replicas).attainment >= SLO.quantile

    def fewest(self, guess: int) -> int | None:
        """The fewest replicas that keep the SLO; None where no number does. More are taken never to do worse."""
        if self.keeps(guess):
            while guess > 1 and self.keeps(guess - 1):
                guess -= 1
            return guess
        low, high = guess, guess
        while not self.keeps(high := min(2 * high, MOST_REPLICAS)):
            if high == MOST_REPLICAS:
                return None
            low = high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.keeps(middle) else (middle, high)
        return high

    def picked(self, model: PerfModel, counts: SpanCounts | None) -> int:
        """What the law wants at the mean rate and the mean lengths of the requests, and in bursts like these."""
        rate = peak(self.window.rate, counts, SLO.quantile)
        headroom = 1 + ReplicaLaw().up_headroom
        return max(ceil(headroom * rate / capacity(model, self.window.mix, SLO).requests_per_second), 1)

    def settled(self, model: PerfModel, *, live_curves: bool) -> int:
        """Where the law comes to rest as it learns from the TPOT that it measures; the highest of a circle. With
        `live_curves` its curves are those that live steps refined."""
        tried = [self.picked(model, self.window.counts)]
        while True:
            replicas, mix = tried[-1], self.window.mix
            served = self.served(replicas)
            if live_curves:
                model = replace(model, small=served.small, large=served.large)
            measured = served.tpot_seconds
            model = corrected(
                model, mix, rate=self.window.rate / replicas, measured_tpot=measured, elapsed_seconds=float("inf")
            )
            after = self.picked(model, self.window.counts)
            if after in tried:
                return max(tried[tried.index(after) :])
            tried.append(after)


class _Row(NamedTuple):
    """A window: the replicas needed, and those that the law picks by what it knows."""

    judge: Judge
    needed: int
    by_means: int
    in_bursts: int
    operator: int
    with_terms: int
    with_neither: int


def sign(number: int) -> int:
    return (number > 0) - (number < 0)


def report(name: str, trace: Sequence[Request], seconds: float) -> str:
    """One row: how many of the needed replicas the law picks by what it knows, and what that means for the SLO."""
    plain = replace(MODEL, kv_read_seconds=0.0, pair_seconds=0.0, request_seconds=0.0)
    windows = [Window.of(trace, i * seconds, seconds) for i in range(1, floor(trace[-1].at / seconds))]
    judges = [Judge(window) for window in windows if window.judged]  # the first window only warms up
    needs = [(judge, judge.fewest(judge.picked(MODEL, None))) for judge in judges]
    rows = [
        _Row(
            judge,
            needed,
            by_means=judge.picked(MODEL, None),
            in_bursts=judge.picked(MODEL, judge.window.counts),
            operator=judge.settled(plain, live_curves=True),
            with_terms=judge.settled(MODEL, live_curves=False),
            with_neither=judge.settled(plain, live_curves=False),
        )
        for judge, needed in needs
        if needed is not None
    ]
    out_of_reach = len(judges) - len(rows)

    def share(column: str) -> str:
        return f"{100 * sum(getattr(row, column) for row in rows) / sum(row.needed for row in rows):.0f} %"

    cells = [
        name,
        f"{len(trace) / trace[-1].at:.1f}",
        str(len(rows)) + (f" (+{out_of_reach})" if out_of_reach else ""),
        f"{min(row.needed for row in rows)} to {max(row.needed for row in rows)}",
        *map(share, ("by_means", "in_bursts", "operator")),
        " / ".join(str(sum(sign(row.operator - row.needed) == way for row in rows)) for way in (0, -1, 1)),
        f"{100 * min(row.judge.served(row.operator).attainment for row in rows):.0f} %",
        *map(share, ("with_terms", "with_neither")),
    ]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("traces", nargs="+", metavar="TRACE.csv[:COPIES]")
    parser.add_argument("--window-seconds", type=float, default=300.0, metavar="S")
    parser.add_argument("--last-seconds", type=float, default=3600.0, metavar="S", help="no more of a trace than this")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    options = parser.parse_args()
    lines = list(HEAD)
    for argument in options.traces:
        path, _, copies = argument.partition(":")
        trace = [request for request in read_trace(Path(path)) if request.at < options.last_seconds]
        over = laid_over(trace, int(copies or 1))
        lines.append(report(f"{Path(path).stem}, {copies or 1} copies", over, options.window_seconds))
        print(lines[-1], flush=True)
    written = "\n".join(lines)
    page.show(__file__, written, write=options.write)


if __name__ == "__main__":
    main()
