"""A replica as a queue of single requests, and the traces that it is given: what `capacity_law.py` judges the law by.

The queue is vLLM's scheduler in outline: steps of at most so many tokens, decodes first, then prompts in chunks and in
order; a request is let in when the KV cache has room for all of it.
"""

from __future__ import annotations

import csv
import heapq
from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from math import sqrt
from pathlib import Path
from typing import NamedTuple

from shift_operator.api.signals import CurvePoint
from shift_operator.control.curves import Curve
from shift_operator.control.performance import CORRECTION_HIGH, CORRECTION_LOW, PerfModel


class Request(NamedTuple):
    """Arrives at `at` seconds with a prompt of `prompt` tokens; its answer has `output`."""

    at: float
    prompt: int
    output: int


class Drift:
    """How live steps compare with a step-time curve: mean of the measured over the curve's, by its nearest point. The
    engine refines its own curves so (worker_image/shift_engine/curves.py), within the same bounds."""

    def __init__(self, curve: Curve) -> None:
        self.curve = curve
        self._sums = [[0.0, 0] for _ in curve.points]
        self._middles = [sqrt(left.tokens * right.tokens) for left, right in pairwise(curve.points)]

    def took(self, tokens: int, seconds: float) -> None:
        ratios = self._sums[bisect_right(self._middles, tokens)]
        ratios[0] += min(max(seconds / self.curve.seconds(tokens), CORRECTION_LOW), CORRECTION_HIGH)
        ratios[1] += 1

    def refined(self) -> Curve:
        """The curve as it is measured; a point without steps stays."""
        return Curve(
            tuple(
                CurvePoint(point.tokens, point.seconds * (total / steps if steps else 1.0))
                for point, (total, steps) in zip(self.curve.points, self._sums, strict=True)
            )
        )


@dataclass
class Replica:
    """One engine: a clock, the requests that wait or are being prefilled, and those that decode.

    `small` and `large` are the step-time curves of `model` with what its engines' live steps say of them.
    """

    model: PerfModel
    small: Drift
    large: Drift
    clock: float = 0.0

    def __post_init__(self) -> None:
        self._waiting: deque[tuple[Request, int]] = deque()  # and the prompt tokens still to compute
        self._decoding: list[tuple[int, float, Request]] = []  # (step of the last token, time of the first, request)
        self._admitted = self._steps = 0
        self._kv_reserved = 0
        self._kv_read = 0  # tokens in the caches of the requests that decode
        self.finished: list[tuple[Request, float, float]] = []  # with time to first token, time per output token

    @property
    def in_system(self) -> int:
        return len(self._waiting) + len(self._decoding)

    def add(self, request: Request) -> None:
        if not self.in_system:
            self.clock = max(self.clock, request.at)
        self._waiting.append((request, request.prompt))

    def run_until(self, moment: float) -> None:
        """Runs the steps that begin before `moment`."""
        while self.in_system and self.clock < moment:
            self._step()

    def _step(self) -> None:
        decoding = len(self._decoding)
        room, tokens, pairs = self.model.max_batched_tokens - decoding, decoding, 0.0
        prefilled: list[Request] = []
        while self._waiting and room > 0:
            request, left = self._waiting[0]
            if left == request.prompt and not self._admit(request):
                break
            chunk = min(left, room)
            done = request.prompt - left
            pairs += chunk * (done + chunk / 2)
            room, tokens = room - chunk, tokens + chunk
            if chunk < left:
                self._waiting[0] = (request, left - chunk)
                break
            self._waiting.popleft()
            prefilled.append(request)
        model = self.model
        mode = self.small if tokens <= model.threshold_tokens else self.large
        seconds = (
            mode.curve.seconds(tokens)
            + model.kv_read_seconds * self._kv_read
            + model.pair_seconds * pairs
            + model.request_seconds * (decoding + len(prefilled))
        )
        self.clock += seconds
        mode.took(tokens, seconds)
        self._steps += 1
        self._kv_read += decoding
        for request in prefilled:
            self._kv_read += request.prompt + 1
            heapq.heappush(self._decoding, (self._steps + request.output - 1, self.clock, request))
        while self._decoding and self._decoding[0][0] <= self._steps:
            _, first, request = heapq.heappop(self._decoding)
            self._kv_read -= request.prompt + request.output
            self._kv_reserved -= request.prompt + request.output
            self._admitted -= 1
            per_token = (self.clock - first) / (request.output - 1) if request.output > 1 else 0.0
            self.finished.append((request, first - request.at, per_token))

    def _admit(self, request: Request) -> bool:
        takes = request.prompt + request.output
        full = self._admitted >= self.model.max_sequences or self._kv_reserved + takes > self.model.kv_capacity_tokens
        if full and self._admitted:
            return False
        self._kv_reserved += takes
        self._admitted += 1
        return True


def read_trace(path: Path) -> list[Request]:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if "TIMESTAMP" in rows[0]:
        first = datetime.fromisoformat(rows[0]["TIMESTAMP"])
        times = [(datetime.fromisoformat(row["TIMESTAMP"]) - first).total_seconds() for row in rows]
        prompt, output = "ContextTokens", "GeneratedTokens"
    else:
        times = [float(row["t_ms"]) / 1000 for row in rows]
        prompt, output = "in_tokens", "out_tokens"
    return [
        Request(at, max(int(row[prompt]), 1), max(int(row[output]), 1)) for at, row in zip(times, rows, strict=True)
    ]


def laid_over(trace: Sequence[Request], copies: int) -> list[Request]:
    length = trace[-1].at + 1e-3
    return sorted(
        request._replace(at=(request.at + copy * length / copies) % length)
        for copy in range(copies)
        for request in trace
    )
