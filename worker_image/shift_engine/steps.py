"""What one rank knows about its steps: which degree the next one runs at, and what the past ones did. Pure."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Set
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

    OVERLAY_INACTIVE = "OverlayInactive"  # the overlay of this degree is not there; GET /shift says why
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


@dataclass(frozen=True)
class Choice:
    """What the schedule says to every step of a number of tokens."""

    degree: Degree
    probe: Degree | None  # the degree that a probe of this size runs at
    is_fallback: bool  # the schedule names another degree, which is not loaded


FOLDED_TOGETHER = 32
"""A step is noted and counted with others: right after a forward Python's own code and data are out of the processor's
caches, so what a step does alone costs some times as much as in a loop."""


class StepLedger:
    """Chooses each step's degree and counts the steps.

    Every rank runs the same code on the same sequence of steps and schedules, so that all choose alike: two ranks in
    different modes would wait for each other forever. Hence no clock and no file decides here.
    """

    def __init__(self, schedule: Schedule, *, max_tokens: int, probe_share: float) -> None:
        self.max_tokens = max_tokens
        self.step = 0  # engine steps so far
        self.fallbacks: Counter[FallbackReason] = Counter()
        self._schedule = schedule
        self._loaded: Set[Degree] = frozenset()
        self._choices: dict[int, Choice] = {}  # by tokens, for this schedule and these degrees
        self._curves = StepTimeCurves()
        self._totals: dict[Degree, DegreeTotals] = {}
        self._transitions = 0
        self._pad_tokens = 0
        self._ran: list[tuple[Degree, int, int]] = []
        self._took: list[tuple[Degree, int, float]] = []
        self._probe_every = round(1 / probe_share) if probe_share > 0 else 0
        self._near_steps = 0
        self._last: Degree | None = None

    @property
    def schedule(self) -> Schedule:
        """What decides the next step."""
        return self._schedule

    @schedule.setter
    def schedule(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._choices = {}

    @property
    def loaded(self) -> Set[Degree]:
        """The degrees that a step can run at, beside 1 x P."""
        return self._loaded

    @loaded.setter
    def loaded(self, degrees: Set[Degree]) -> None:
        self._loaded = degrees
        self._choices = {}

    @property
    def curves(self) -> StepTimeCurves:
        """How long steps take, refined by those that ran."""
        self.fold()
        return self._curves

    @curves.setter
    def curves(self, curves: StepTimeCurves) -> None:
        self._curves = curves

    @property
    def totals(self) -> dict[Degree, DegreeTotals]:
        """The counters of each degree that ran."""
        self.fold()
        return self._totals

    @property
    def transitions(self) -> int:
        """How often a step ran at another degree than the one before."""
        self.fold()
        return self._transitions

    @property
    def pad_tokens(self) -> int:
        """Rows of padding so far."""
        self.fold()
        return self._pad_tokens

    def wanted(self, tokens: int) -> Degree:
        """The degree that the schedule, or a probe, names for the next step. Counts the step."""
        self.step += 1
        choice = self._choices.get(tokens)
        if choice is None:
            choice = self._choices[tokens] = self._choose(tokens)
        if choice.probe is not None:
            self._near_steps += 1
            if self._near_steps % self._probe_every == 0:
                return choice.probe
        if choice.is_fallback:
            self.fallbacks[FallbackReason.OVERLAY_INACTIVE] += 1
        return choice.degree

    def ran(self, degree: Degree, tokens: int, pad_tokens: int) -> None:
        """A step of `tokens` tokens ran at `degree`, with so many rows of padding."""
        self._ran.append((degree, tokens, pad_tokens))
        if len(self._ran) == FOLDED_TOGETHER:
            self.fold()

    def took(self, degree: Degree, tokens: int, seconds: float) -> None:
        """The step's time is known, at once or a step later."""
        self._took.append((degree, tokens, seconds))

    def fold(self) -> None:
        """Count what was noted, and refine the curves by it."""
        for degree, tokens, pad_tokens in self._ran:
            totals = self._totals_of(degree)
            totals.steps += 1
            totals.tokens += tokens
            totals.buckets[bisect_left(TOKEN_BUCKETS, tokens)] += 1
            self._pad_tokens += pad_tokens
            self._transitions += self._last is not None and self._last != degree
            self._last = degree
        for degree, tokens, seconds in self._took:
            self._totals_of(degree).seconds += seconds
            self._curves.observe(degree, tokens, seconds)
        self._ran.clear()
        self._took.clear()

    def _choose(self, tokens: int) -> Choice:
        degree, probe = self._schedule.degree_for(tokens), None
        if self._probe_every and self._loaded:
            other = self._schedule.neighbour_degree(tokens, PROBE_FACTOR)
            if other is not None and (other.is_full_tensor or other in self._loaded):
                probe = other
        if degree.is_full_tensor or degree in self._loaded:
            return Choice(degree, probe, is_fallback=False)
        return Choice(Degree.full_tensor(degree.gpus), probe, is_fallback=True)

    def _totals_of(self, degree: Degree) -> DegreeTotals:
        totals = self._totals.get(degree)
        if totals is None:
            totals = self._totals[degree] = DegreeTotals()
        return totals
