"""What is worth telling: what is new, and neither what is said again nor what comes and goes.

To tell something is to write a status. Reasons that alternate from look to look, such as a gain around the one that a
change is worth or a pod that every other scrape misses, would cost a write per look and deployment, and tell a reader
nothing that the next look does not take back. So something new is told at once, and what a reader has seen within the
last minutes is told again only once it has been so for some looks in a row.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

from shift_operator.api.signals import Instant

REPEAT_SECONDS = 300.0
"""What has not been on display for so long is new again."""

STEADY_LOOKS = 4
"""So many looks in a row are no flicker: a minute at the chart's interval."""


@dataclass(frozen=True, slots=True)
class Told:
    """What has been told on one subject.

    `last` is on display. `said` is what the last `looks` looks said, told or not. `seen_until`: until when what was
    told before was on display.
    """

    last: Hashable
    said: Hashable
    looks: int
    seen_until: Mapping[Hashable, Instant]

    @classmethod
    def first(cls, what: Hashable) -> Told:
        """It is told, and nothing was before."""
        return cls(what, what, 1, {})

    def after(self, what: Hashable, now: Instant, *, at_once: bool = False) -> Told:
        """After one more look, that says `what`. It is told if it is on display then; `at_once` sees to that."""
        looks = self.looks + 1 if what == self.said else 1
        seen_until = {known: at for known, at in self.seen_until.items() if now - at < REPEAT_SECONDS}
        if what == self.last:
            return Told(what, what, looks, seen_until)
        if at_once or what not in seen_until or looks >= STEADY_LOOKS:
            return Told(what, what, looks, seen_until | {self.last: now})
        return Told(self.last, what, looks, seen_until)
