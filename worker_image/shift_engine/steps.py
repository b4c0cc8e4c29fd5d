"""What one rank knows about its steps: which degree the next one runs at, and what the past ones did. Pure."""

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from .curves import StepTimeCurves
from .degree import Degree
from .schedule import Schedule

TOKEN_BUCKETS = (
    *(1, 2, 4, 8, 16, 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096),
    *(6144, 8192, 12288, 16384, 32768, 65536, 131072),
)
PROBE_FACTOR = 1.5  # a step within this factor of a bound is near it


class FallbackReason(StrEnum):
    """Why a step ran 1 x P although the schedule named another degree."""

    OVERLAY_INACTIVE = "OverlayInactive"  # this model or configuration has no overlay; GET /shift says why
    INPUTS = "Inputs"  # prompt embeddings or other inputs than token ids and one row of positions


@dataclass
class DegreeTotals:
    """Counters of the steps that ran at one degree."""

    steps: int = 0
    tokens: int = 0
    seconds: float = 0.0
    buckets: list[int] = field(default_factory=lambda: [0] * (len(TOKEN_BUCKETS) + 1))  # the last one: larger than all

    def to_document(self) -> dict[str, Any]:
        """As `shift_stats` sends it."""
        return {"steps": self.steps, "tokens": self.tokens, "seconds": self.seconds, "buckets": self.buckets}


class StepLedger:
    """Chooses each step's degree and counts the steps.

    Every rank runs the same code on the same sequence of steps and schedules, so that all choose alike: two ranks in
    different modes would wait for each other forever. Hence no clock and no file decides here.
    """

    def __init__(self, schedule: Schedule, *, max_tokens: int, probe_share: float) -> None:
        self.schedule = schedule
        self.max_tokens = max_tokens
        self.step = 0  # engine steps so far
        self.active = False  # the overlay is there
        self.curves = StepTimeCurves()
        self.totals: dict[Degree, DegreeTotals] = {}
        self.fallbacks: Counter[FallbackReason] = Counter()
        self.transitions = 0
        self.pad_tokens = 0
        self._probe_every = round(1 / probe_share) if probe_share > 0 else 0
        self._near_steps = 0
        self._last: Degree | None = None

    def wanted(self, tokens: int) -> Degree:
        """The degree that the schedule, or a probe, names for the next step. Counts the step."""
        self.step += 1
        degree = self.schedule.degree_for(tokens)
        if self._probe_every and self.active:
            other = self.schedule.neighbour_degree(tokens, PROBE_FACTOR)
            if other is not None:
                self._near_steps += 1
                if self._near_steps % self._probe_every == 0:
                    degree = other
        if not degree.is_full_tensor and not self.active:
            self.fallbacks[FallbackReason.OVERLAY_INACTIVE] += 1
            return Degree.full_tensor(degree.gpus)
        return degree

    def ran(self, degree: Degree, tokens: int, pad_tokens: int) -> None:
        """A step of `tokens` tokens ran at `degree`, with so many rows of padding."""
        totals = self.totals.setdefault(degree, DegreeTotals())
        totals.steps += 1
        totals.tokens += tokens
        totals.buckets[bisect_left(TOKEN_BUCKETS, tokens)] += 1
        self.pad_tokens += pad_tokens
        self.transitions += self._last is not None and self._last != degree
        self._last = degree

    def took(self, degree: Degree, tokens: int, seconds: float) -> None:
        """The step's time is known, at once or a step later."""
        self.totals.setdefault(degree, DegreeTotals()).seconds += seconds
        self.curves.observe(degree, tokens, seconds)
