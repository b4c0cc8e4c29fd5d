"""Signals of a deployment as the law meets them."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from shift_operator.api.schedule import Degree
from shift_operator.api.signals import SOURCES, CurvePoint, Instant, Known, Signals, SizeBucket, Span

NOW: Instant = 1_800_000_000.0


@pytest.fixture
def now() -> Instant:
    """The moment the decision is made; the signals are 5 s old."""
    return NOW


@pytest.fixture
def signals_of() -> Callable[..., Signals]:
    """`signals_of(buckets, small, large, max_batched_tokens=2048, **other)`: one pod of P = 2 that reports everything.

    `small` and `large` are the step-time curves of 1x2 and 2x1, as functions of the tokens. `other` replaces signals.
    """

    def build(
        buckets: list[SizeBucket],
        small: Callable[[int], float],
        large: Callable[[int], float],
        max_batched_tokens: int = 2048,
        **other: Any,
    ) -> Signals:
        sizes = [tokens for tokens in (1, 8, 64, 256, 512, 1024) if tokens < max_batched_tokens] + [max_batched_tokens]
        curves: Mapping[Degree, tuple[CurvePoint, ...]] = {
            Degree(sequence=1, tensor=2): tuple(CurvePoint(n, small(n)) for n in sizes),
            Degree(sequence=2, tensor=1): tuple(CurvePoint(n, large(n)) for n in sizes),
        }
        values: dict[str, Any] = {
            "step_sizes": tuple(buckets),
            "steps": {degree: sum(bucket.steps for bucket in buckets) / 2 for degree in curves},
            "step_time": curves,
            "max_batched_tokens": max_batched_tokens,
            "max_sequences": 256,
            "pods_reporting": 1,
            "threshold_tokens": Span(512, 512),
            "generation": Span(1, 1),
            "running": 3.0,
            "waiting": 0.0,
        }
        known = Signals(**{name: Known(value, NOW - 5, SOURCES[name]) for name, value in values.items()})
        return replace(known, **other)

    return build
