"""Asks for replicas, and for those that were released again: when their pause is over, or sooner where GPUs came free.

How long the pauses are is planning's (`asking.py`). Whether GPUs came free is told by the room on the nodes growing
since the release: that there is some room says little, since the scheduler, who found none, knows more than we do.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from shift_operator.api.signals import DeploymentKey
from shift_operator.api.status import CapacityRelease
from shift_operator.controller.free_gpus import FreeGpus
from shift_operator.controller.observe import Seen
from shift_operator.planning.asking import Ask, next_ask
from shift_operator.planning.span import Span

log = logging.getLogger(__name__)

LIST_AGE_SECONDS = 10.0
"""Deployments that were released share a list of everyone's pods of this age, unless something of ours ended since."""


@dataclass(frozen=True)
class _Room:
    """The least room seen since a release; None while it is not known. Unit: replicas."""

    release: CapacityRelease
    least: int | None


class Asking:
    """What is asked for each deployment. `now` is the wall clock."""

    def __init__(self, gpus: FreeGpus, now: Callable[[], datetime]) -> None:
        self._gpus = gpus
        self._now = now
        self._rooms: dict[DeploymentKey, _Room] = {}
        self._short: set[DeploymentKey] = set()

    async def ask(self, key: DeploymentKey, seen: Seen, wanted: int, span: Span) -> Ask:
        """How many of the wanted replicas to ask for now."""
        deployment, now = seen.deployment, self._now()
        before = deployment.status.release if deployment.status else None
        freed = (
            before is not None and now < before.retry_time and await self._has_room_come(key, seen, before, span.nodes)
        )
        ask = next_ask(deployment, wanted, seen.child, seen.pods, now, span.obstacle, freed=freed)
        if ask.replicas < wanted:
            self._short.add(key)
        else:
            self.forget(key)
        fields = {"key": str(key), "wanted": wanted, "asked": ask.replicas}
        if ask.release is not None and ask.release != before:
            what = "replicas asked for again, there is room" if freed else "replicas released"
            log.warning(what, extra=fields | {"tries": ask.release.tries})
        return ask

    def short(self) -> frozenset[DeploymentKey]:
        """The deployments that ask for fewer replicas than they want."""
        return frozenset(self._short)

    def forget(self, key: DeploymentKey) -> None:
        """Nothing of it is released; or it is gone."""
        self._short.discard(key)
        self._rooms.pop(key, None)

    async def _has_room_come(self, key: DeploymentKey, seen: Seen, release: CapacityRelease, nodes: int) -> bool:
        room = await self._gpus.room(seen.deployment, LIST_AGE_SECONDS, nodes)
        known = self._rooms.get(key)
        least = known.least if known is not None and known.release == release else room
        if room is None or least is None:
            return False
        self._rooms[key] = _Room(release, min(least, room))
        return room > least
