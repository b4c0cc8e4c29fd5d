"""The other installs of the operator in the cluster, seen by their Leases, and what of ours is theirs.

Each Lease carries its install's `--instance` as a label and its namespaces as an annotation. Who serves which of them
is planning's (`ownership.py`). Here is what keeps two from writing at a time while that changes:

- Before each renewal of our Lease we look at the others'. What we may write thus rests on a look that is no older than
  the time for which the renewal lets us write, D seconds, from when that look began (`cluster/lease.py`).
- So one that goes before another writes D seconds after its Lease was there to be seen; by then the other has looked.
- One whose Lease does not change for its D seconds is gone, and so is the last write that it may make. One that gave
  its Lease back is waited for as long: mostly its next process comes.

Spans are measured on our own clock. A process without `--lease` sees no others and is seen by none.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from shift_operator.api import labels
from shift_operator.cluster.client import Body, Cluster
from shift_operator.cluster.errors import ClusterError, Forbidden, Request, ServedByAnother
from shift_operator.cluster.lease import since_boot
from shift_operator.cluster.resources import EVENTS, LEASES
from shift_operator.planning.ownership import Install, Other, Ownership, ownership

log = logging.getLogger(__name__)

FIRST_LOOK_PAUSE_SECONDS = 1.0
EVERYWHERE = "*"
"""The value of the annotation where all namespaces are watched."""
YOUNGEST = datetime.max.replace(tzinfo=UTC)
"""When our Lease was created while it is not there: someone deleted it, and a new one will be younger than any."""

NO_LEASE = "the operator runs without --lease, so it cannot see other installs"
FORBIDDEN = "the operator may not list leases in the cluster, so it cannot see other installs: give it that right"


@dataclass(frozen=True)
class _Sighting:
    """Another's Lease. `changed_at`: when its last change was seen; None where nobody held it when first seen.
    `lets_go_at`: when an install that we go before has noticed."""

    install: Install
    version: str
    seconds: float
    changed_at: float | None
    lets_go_at: float = 0.0

    def alive(self, at: float) -> bool:
        return self.changed_at is not None and at < self.changed_at + self.seconds


class Installs:
    """What we know of the other installs. `lease`: ours, None where this process runs without one.

    `on_change` is called when someone else comes, goes, or lets go.
    """

    def __init__(
        self,
        cluster: Cluster | None,
        lease: tuple[str, str] | None,
        namespaces: tuple[str, ...],
        instance: str,
        *,
        clock: Callable[[], float] = since_boot,
    ) -> None:
        self._cluster = cluster
        self._lease = lease
        self._instance = instance
        self._clock = clock
        self._looking = asyncio.Lock()
        self._hidden = None if lease else NO_LEASE
        self._looked = lease is None
        self._us = Install("/".join(lease or ()), frozenset(namespaces), YOUNGEST)
        self._sightings: dict[str, _Sighting] = {}
        self._others: tuple[Other, ...] = ()
        self.on_change: Callable[[], None] = lambda: None

    @property
    def marks(self) -> Mapping[str, Mapping[str, str]]:
        """What tells others of us: metadata of our Lease."""
        return {
            "labels": {labels.MANAGED_BY: labels.OPERATOR, labels.INSTANCE: self._instance},
            "annotations": {labels.WATCH_NAMESPACES: ",".join(sorted(self._us.namespaces)) or EVERYWHERE},
        }

    def ownership(self, namespace: str | None) -> Ownership:
        """Who serves this namespace; for None, what belongs to none."""
        return replace(ownership(self._us, self._others, namespace), hidden=self._hidden)

    def is_ours(self, namespace: str | None) -> bool:
        """Whether we serve this namespace now."""
        return self.ownership(namespace).is_ours

    def check(self, asked: Request) -> None:
        """Before each write. Raises ServedByAnother for what another install serves; Events are everyone's."""
        if asked.resource == str(EVENTS):
            return
        serving = self.ownership(asked.namespace)
        if not self._looked:
            raise ServedByAnother(asked, "other installs of the operator have not been looked for yet")
        if not serving.is_ours:
            whose = serving.owner or serving.letting_go
            raise ServedByAnother(asked, f"install {whose.name if whose else ''} serves this namespace")

    async def look_once(self, stop: asyncio.Event) -> None:
        """Looks for the first time, as often as it takes; returns on `stop` too."""
        while not self._looked and not stop.is_set():
            try:
                await self.look()
            except ClusterError as error:
                log.warning("cannot look for other installs", extra={"error": str(error)})
                await asyncio.sleep(FIRST_LOOK_PAUSE_SECONDS)

    async def look(self) -> None:
        """Reads the Leases of all installs of our `--instance`. Raises ClusterError, but for a missing right."""
        if self._cluster is None or self._lease is None:
            return
        async with self._looking:  # an older answer must not come after a newer one
            asked_at = self._clock()
            selector = f"{labels.OURS},{labels.INSTANCE}={self._instance}"
            try:
                bodies = [body async for page in self._cluster.list(LEASES, None, selector) for body in page.bodies]
            except Forbidden as error:
                if self._hidden is None:
                    log.warning("cannot see other installs", extra={"error": str(error)})
                self._hidden, bodies = FORBIDDEN, []
            else:
                self._hidden = None
            self._take(bodies, asked_at)

    def _take(self, bodies: list[Body], asked_at: float) -> None:
        answered_at = self._clock()
        found = {name_of(body): body for body in bodies}
        before = self._us
        ours = found.pop(self._us.name, None)
        self._us = replace(self._us, created=_created(ours) if ours else YOUNGEST)
        for name, body in found.items():
            self._sightings[name] = self._sighted(body, self._sightings.get(name), before, asked_at, answered_at)
        # A Lease that someone deleted is written again by who holds it.
        self._sightings = {n: s for n, s in self._sightings.items() if n in found or s.alive(asked_at)}
        others = tuple(
            Other(sighting.install, answered_at < sighting.lets_go_at)
            for _, sighting in sorted(self._sightings.items())
            if sighting.alive(asked_at)
        )
        self._looked = True
        if others != self._others:
            self._others = others
            for other in others:
                self._tell(other)
            self.on_change()

    def _tell(self, other: Other) -> None:
        ours, theirs = self._us.namespaces, other.install.namespaces
        fields = {
            "install": other.install.name,
            "namespaces": sorted(theirs) or EVERYWHERE,
            "serves_before_us": other.install.goes_before(self._us),
        }
        overlaps = not ours or not theirs or bool(ours & theirs)
        log.warning("another install overlaps" if overlaps else "another install", extra=fields)

    def _sighted(
        self, body: Body, known: _Sighting | None, we_were: Install, asked_at: float, answered_at: float
    ) -> _Sighting:
        spec = body.get("spec") or {}
        version, is_held = str(body["metadata"]["resourceVersion"]), bool(spec.get("holderIdentity"))
        changed_at = known.changed_at if known else None
        if is_held and (known is None or known.version != version):
            changed_at = answered_at
        install = _install(body)
        seconds = float(spec.get("leaseDurationSeconds") or 0.0)
        lets_go_at = known.lets_go_at if known else 0.0
        # Whoever comes after us has looked before its first write. It has not where it was there before us, or where it
        # went before us: a Lease that was deleted is younger when it comes again.
        was_there = not self._looked or (
            known is not None and known.alive(asked_at) and known.install.goes_before(we_were)
        )
        if was_there and self._us.goes_before(install):
            lets_go_at = answered_at + seconds
        return _Sighting(install, version, seconds, changed_at, lets_go_at)


def name_of(lease: Mapping[str, Any]) -> str:
    """An install's name: its Lease's namespace and name."""
    return f"{lease['metadata']['namespace']}/{lease['metadata']['name']}"


def _install(lease: Body) -> Install:
    annotation = (lease["metadata"].get("annotations") or {}).get(labels.WATCH_NAMESPACES, EVERYWHERE)
    namespaces = frozenset(() if annotation == EVERYWHERE else annotation.split(","))
    return Install(name_of(lease), namespaces, _created(lease))


def _created(lease: Body) -> datetime:
    return datetime.fromisoformat(lease["metadata"]["creationTimestamp"])
