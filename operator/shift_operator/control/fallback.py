"""The fallback: where a knob goes once its signals have been unknown for long, if its policy asks for that.

A law that does not know holds. Under `onMissingMetrics: Fallback` this ends after `fallbackAfterSeconds`: threshold and
degree go to the spec's own values, and replicas rise to the spec's (the replicas law does that itself, since a queue
that is known may ask for more). The spec is the user's word and needs no signal. Nothing here takes a replica away.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeVar

from shift_operator.api.schedule import Degree
from shift_operator.api.signals import Instant
from shift_operator.control.decision import Decision, Fact

Reason = TypeVar("Reason", bound=StrEnum)
Limit = TypeVar("Limit", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class SpecValues:
    """What the user's spec says of the three knobs."""

    threshold_tokens: int
    degree: Degree
    replicas: int


@dataclass(frozen=True, slots=True)
class Fallback:
    """The value to go to, and after how many seconds without the signals that the knob needs."""

    value: int
    after_seconds: float

    def is_due(self, unknown_since: Instant | None, now: Instant) -> bool:
        """Whether the signals have been unknown for long enough; `unknown_since` is None while they are known."""
        return unknown_since is not None and now - unknown_since >= self.after_seconds


def unknown_since(
    decision: Decision[Reason, Limit], doubts: Collection[Reason], before: Instant | None, now: Instant
) -> Instant | None:
    """Since when a knob's signals are unknown, None where they are known. `doubts`: the reasons that say unknown.

    A value outside its range goes to the nearest bound without a look at the signals: that tick says nothing of them.
    """
    if decision.reason in doubts:
        return now if before is None else before
    return before if decision.moves and decision.wanted is None else None


def fallen_back(
    decision: Decision[Reason, Limit], fallback: Fallback | None, since: Instant | None, now: Instant, why: Reason
) -> Decision[Reason, Limit]:
    """The decision, or the fallback's where it is due and would change something. `why` is the knob's reason for it."""
    if fallback is None or since is None or not fallback.is_due(since, now) or decision.after == fallback.value:
        return decision
    unknown_for = Fact("unknown for", f"{now - since:.0f} s")
    return replace(decision, after=fallback.value, reason=why, limit=None, evidence=(unknown_for, *decision.evidence))
