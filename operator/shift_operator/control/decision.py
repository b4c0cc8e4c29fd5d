"""A decision as a value: what a knob was, what its law wanted, what it becomes, and why.

Acting on it is the controller's.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

Reason = TypeVar("Reason", bound=StrEnum, covariant=True)
Limit = TypeVar("Limit", bound=StrEnum, covariant=True)


class Knob(StrEnum):
    """What a decision is about."""

    THRESHOLD = "Threshold"
    DEGREE = "Degree"  # its value is the sequence parallelism: at a fixed number of GPUs that tells the degree
    REPLICAS = "Replicas"


class Verb(StrEnum):
    """What a decision does to its knob."""

    HOLD = "Hold"
    RAISE = "Raise"
    LOWER = "Lower"


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing a decision rests on, in words: what it is and its value, with its unit as a reader wants it."""

    name: str
    value: str

    def __str__(self) -> str:
        return f"{self.name} {self.value}"


@dataclass(frozen=True, slots=True)
class Decision(Generic[Reason, Limit]):
    """What becomes of one knob of one deployment. Equal inputs give equal decisions; it holds no clock.

    `wanted` is what the law asked for before any limit, None where it could not tell. `after` is what to set; `limit`
    says what stands between the two. A held knob has `after == before`.
    """

    knob: Knob
    before: int
    wanted: int | None
    after: int
    reason: Reason
    limit: Limit | None = None
    evidence: tuple[Fact, ...] = ()

    @property
    def verb(self) -> Verb:
        """Whether the knob goes up, down or stays."""
        if self.after == self.before:
            return Verb.HOLD
        return Verb.RAISE if self.after > self.before else Verb.LOWER

    @property
    def moves(self) -> bool:
        """Whether there is anything to do."""
        return self.verb is not Verb.HOLD

    def __str__(self) -> str:
        change = f"{self.before} -> {self.after}" if self.moves else f"{self.before} held"
        limited = f", limited by {self.limit}" if self.limit else ""
        facts = "; ".join(map(str, self.evidence))
        return f"{self.knob} {change}: {self.reason}{limited}" + (f" ({facts})" if facts else "")
