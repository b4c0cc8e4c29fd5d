"""The Lease that decides which of several operator processes writes: acquired, kept, given back, asked by each write.

    acquire ──> leading ──> keep (a renewal every sixth of the lease) ──> LeaseLost, or release
       │
       └── standing by: looks every sixth of the lease, takes it when free, or unchanged for its whole length

Why there are never two writers: with a lease of D seconds whose last renewal was *sent* at s, the holder begins no
write after s + 2D/3 and waits for none longer than until s + D (`fence`). Another process takes the lease D after it
*saw* that renewal, which is later than s. No two clocks are compared: each process measures spans on its own, on one
that counts a suspended machine's time too. What is left is a write that the API server took in and finishes long after
its client gave up; our writes are forced applies of whole states, so the next holder's apply sets it right.

Renewals are replacements at a known resourceVersion, so of two candidates one gets a Conflict. Why not the client
library's own election: docs/decisions/0007.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NoReturn

from shift_operator.cluster.client import Body, Cluster
from shift_operator.cluster.errors import (
    ClusterError,
    Conflict,
    Forbidden,
    LeaseLost,
    NotFound,
    Request,
    Unauthorized,
)
from shift_operator.cluster.resources import LEASES

log = logging.getLogger(__name__)

LEASE_SECONDS = 12.0
"""A killed leader is followed within these, plus one look of the follower (a sixth), plus a list of everything."""
SHORTEST_PAUSE_SECONDS = 0.05


def since_boot() -> float:
    """Seconds on a clock that nobody sets and that does not stop while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Lease:
    """One candidate for a `coordination.k8s.io` Lease. `identity` must be unique among processes, also among restarts.

    `cluster` must not itself be fenced by this lease: renewing is how the fence stays open. `marks` are labels and
    annotations of the Lease. `before_renewal` is awaited before each renewal, within its time; one that raises
    ClusterError is a renewal that failed.
    """

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        name: str,
        identity: str,
        *,
        seconds: float = LEASE_SECONDS,
        clock: Callable[[], float] = since_boot,
        marks: Mapping[str, Mapping[str, str]] | None = None,
        before_renewal: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._name = name
        self.identity = identity
        self._seconds = seconds
        self._clock = clock
        self._marks = marks or {}
        self._before_renewal = before_renewal
        self._every = seconds / 6
        self._try_seconds = seconds / 4  # one hanging connection must not cost the lease
        self._body: Body | None = None
        self._expires_at = -math.inf
        self._renewed_at = -math.inf
        self.held_until: float | None = None
        """Until when whoever held it before us is known to have done so, in seconds since the epoch by its clock."""

    @property
    def holder(self) -> str:
        """Who held the lease when it was last seen; empty where nobody did."""
        return str(_spec(self._body).get("holderIdentity") or "")

    def fence(self) -> float:
        """For how many seconds a write that begins now may last. Raises LeaseLost where none may begin."""
        age = self._clock() - self._renewed_at
        if age >= self._seconds * 2 / 3:
            raise self._lost()
        return self._seconds - age

    async def acquire(self, on_standby: Callable[[str], None] = lambda holder: None) -> None:
        """Returns once this process holds the lease; waits for an API server that is away.

        `on_standby(holder)` is called after each look that finds it another's. Raises Forbidden and Unauthorized.
        """
        while not await self._try_to_acquire(on_standby):
            pause = min(self._every, self._expires_at - self._clock())
            await asyncio.sleep(pause if pause > SHORTEST_PAUSE_SECONDS else self._every)

    async def keep(self) -> NoReturn:
        """Renews the lease until cancelled. Raises LeaseLost when another process has it, or may have it soon."""
        while True:
            await asyncio.sleep(self._every)
            await self._renew()

    async def release(self) -> None:
        """Gives the lease back, so that the next process need not wait. Call it when no write is under way any more."""
        self._renewed_at = -math.inf
        try:
            async with asyncio.timeout(self._try_seconds):
                # A renewal that was cut short may have changed it since we last read it.
                self._body = await self._cluster.get(LEASES, self._namespace, self._name)
                if self.holder == self.identity:
                    await self._replace(_spec(self._body) | {"holderIdentity": "", "renewTime": _micro_time()})
        except (ClusterError, TimeoutError) as error:
            log.warning("lease not released", extra={"error": str(error) or type(error).__name__})

    async def _try_to_acquire(self, on_standby: Callable[[str], None]) -> bool:
        try:
            async with asyncio.timeout(self._try_seconds):
                if not await self._look():
                    on_standby(self.holder)
                    return False
                sent_at = self._clock()
                self.held_until = _epoch_seconds(_spec(self._body).get("renewTime"))
                if self._body is None:
                    await self._create(self._taken())
                else:
                    await self._replace(self._taken())
        except Conflict:
            return False  # another candidate was faster; the next look shows who
        except (Forbidden, Unauthorized):
            raise
        except (ClusterError, TimeoutError) as error:
            log.warning("cannot look at the lease", extra={"error": str(error) or type(error).__name__})
            return False
        self._renewed_at = sent_at
        return True

    async def _look(self) -> bool:
        """Reads the lease. Whether it is free: nobody's, ours from an answer that was lost, or run out."""
        before = self._body
        try:
            body = await self._cluster.get(LEASES, self._namespace, self._name)
        except NotFound:
            # Someone deleted it. Its holder does not know that yet, and is given the time to find out.
            if self._clock() < self._expires_at:
                return False
            self._body = None
            return True
        self._body = body
        if before is None or _version(before) != _version(body):
            self._expires_at = self._clock() + float(_spec(body).get("leaseDurationSeconds") or self._seconds)
        return self.holder in ("", self.identity) or self._clock() >= self._expires_at

    async def _renew(self) -> None:
        """Tries until the lease is renewed. Raises LeaseLost."""
        while True:
            left = self._renewed_at + self._seconds * 2 / 3 - self._clock()
            if left <= 0:
                raise self._lost()
            try:
                async with asyncio.timeout(min(left, self._try_seconds)):
                    if await self._renew_once():
                        return
            except LeaseLost:
                raise
            except (ClusterError, TimeoutError) as error:
                log.warning("lease not renewed", extra={"error": str(error) or type(error).__name__})
                await asyncio.sleep(min(left, self._every / 4))

    async def _renew_once(self) -> bool:
        sent_at = self._clock()
        if self._before_renewal is not None:
            await self._before_renewal()
        try:
            await self._replace(_spec(self._body) | {"renewTime": _micro_time()})
        except Conflict:
            # An answer of ours that was lost, someone's label on it, or another holder: reading tells.
            self._body = await self._cluster.get(LEASES, self._namespace, self._name)
            if self.holder != self.identity:
                raise self._lost() from None
            return False
        except NotFound:
            await self._create(_spec(self._body) | {"renewTime": _micro_time()})
        self._renewed_at = sent_at
        return True

    def _taken(self) -> Body:
        """The spec with which we take what `_look` found."""
        now = _micro_time()
        return {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": math.ceil(self._seconds),
            "acquireTime": now,
            "renewTime": now,
            "leaseTransitions": int(_spec(self._body).get("leaseTransitions") or 0) + (self._body is not None),
        }

    async def _create(self, spec: Body) -> None:
        metadata = self._marked({"namespace": self._namespace, "name": self._name})
        body = {"apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": metadata, "spec": spec}
        self._body = await self._cluster.create_lease(body)

    async def _replace(self, spec: Body) -> None:
        assert self._body is not None
        metadata = self._marked(self._body["metadata"])
        self._body = await self._cluster.replace_lease(self._body | {"metadata": metadata, "spec": spec})

    def _marked(self, metadata: Body) -> Body:
        return metadata | {kind: (metadata.get(kind) or {}) | dict(marks) for kind, marks in self._marks.items()}

    def _lost(self) -> LeaseLost:
        request = Request("update", str(LEASES), self._namespace, self._name)
        if self.holder not in ("", self.identity):
            return LeaseLost(request, f"{self.holder} holds the lease now")
        return LeaseLost(request, f"not renewed for {self._seconds * 2 / 3:g} s, so another process may hold it soon")


def _spec(body: Body | None) -> dict[str, Any]:
    return (body or {}).get("spec") or {}


def _version(body: Body) -> str:
    return str(body["metadata"]["resourceVersion"])


def _epoch_seconds(time: str | None) -> float | None:
    return datetime.fromisoformat(time).timestamp() if time else None


def _micro_time() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
