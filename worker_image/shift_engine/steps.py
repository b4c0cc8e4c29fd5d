"""What one rank knows about its steps: which degree the next one runs at, and what the past ones did. Pure."""

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable, Set
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple, TypeAlias

from .curves import StepTimeCurves
from .degree import Degree
from .schedule import Schedule

TOKEN_BUCKETS = (
    *(1, 2, 4, 8, 16, 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096),
    *(6144, 8192, 12288, 16384, 32768, 65536, 131072),
)
PROBE_FACTOR = 1.5  # a step within this factor of a bound is near it

SecondsBetween: TypeAlias = Callable[[Any, Any], float | None]  # two readings of a clock; None while it does not know


class FallbackReason(StrEnum):
    """Why a step ran 1 x P although the schedule named another degree."""

    OVERLAY_INACTIVE = "OverlayInactive"  # the overlay of this degree is not there; GET /shift says why
    INPUTS = "Inputs"  # prompt embeddings or other inputs than token ids and one row of positions


class StepOutcome(NamedTuple):
    """What the forward of a step did."""

    degree: Degree
    pad_tokens: int = 0
    fallback: FallbackReason | None = None


NotedStep: TypeAlias = tuple[StepOutcome, int, Any, Any]  # what it did, its tokens, the clock before and after it


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


class Choice(NamedTuple):
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

    def __init__(self, schedule: Schedule, seconds: SecondsBetween, *, max_tokens: int, probe_share: float) -> None:
        """`seconds` is asked for the time between the readings that `ran` is given, until it knows."""
        self.max_tokens = max_tokens
        self.step = 0  # engine steps so far
        self._seconds = seconds
        self._schedule = schedule
        self._loaded: Set[Degree] = frozenset()
        self._choices: dict[int, Choice] = {}  # by tokens, for this schedule and these degrees
        self._curves = StepTimeCurves()
        self._totals: dict[Degree, DegreeTotals] = {}
        self._transitions = 0
        self._pad_tokens = 0
        self._fallbacks: Counter[FallbackReason] = Counter()
        self._inactive_steps = 0
        self._ran: deque[NotedStep] = deque()
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
    def fallbacks(self) -> Counter[FallbackReason]:
        """Steps that ran 1 x P although the schedule named another degree."""
        self.fold()
        return self._fallbacks + Counter({FallbackReason.OVERLAY_INACTIVE: self._inactive_steps})

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
        degree, probe, is_fallback = choice
        if probe is not None:
            self._near_steps += 1
            if self._near_steps % self._probe_every == 0:
                return probe
        if is_fallback:
            self._inactive_steps += 1
        return degree

    def ran(self, outcome: StepOutcome, tokens: int, began: Any, ended: Any) -> None:
        """A step of `tokens` tokens is over; `began` and `ended` are readings of the clock."""
        self._ran.append((outcome, tokens, began, ended))
        if len(self._ran) >= FOLDED_TOGETHER:
            self.fold()

    def fold(self) -> None:
        """Count the steps whose time is known by now, and refine the curves by them."""
        while self._ran:
            (degree, pad_tokens, fallback), tokens, began, ended = self._ran[0]
            seconds = self._seconds(began, ended)
            if seconds is None:
                return
            self._ran.popleft()
            totals = self._totals.get(degree)
            if totals is None:
                totals = self._totals[degree] = DegreeTotals()
            totals.steps += 1
            totals.tokens += tokens
            totals.seconds += seconds
            totals.buckets[bisect_left(TOKEN_BUCKETS, tokens)] += 1
            self._pad_tokens += pad_tokens
            self._transitions += self._last is not None and self._last != degree
            self._last = degree
            if fallback is not None:
                self._fallbacks[fallback] += 1
            self._curves.observe(degree, tokens, seconds)

    def _choose(self, tokens: int) -> Choice:
        degree, probe = self._schedule.degree_for(tokens), None
        if self._probe_every and self._loaded:
            other = self._schedule.neighbour_degree(tokens, PROBE_FACTOR)
            if other is not None and (other.is_full_tensor or other in self._loaded):
                probe = other
        if degree.is_full_tensor or degree in self._loaded:
            return Choice(degree, probe, is_fallback=False)
        return Choice(Degree.full_tensor(degree.gpus), probe, is_fallback=True)
