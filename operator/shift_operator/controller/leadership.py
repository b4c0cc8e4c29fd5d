"""One process of several works: it stands by until the lease is its own, works while it keeps it, and ends with it.

It ends instead of standing by again: what it had begun is not known to be over until the process is gone.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import uuid
from collections.abc import Awaitable, Callable

from shift_operator.cluster.lease import Lease
from shift_operator.controller.http import Readiness
from shift_operator.controller.metrics import Metrics

log = logging.getLogger(__name__)

A_LOOK = "a look at the lease"


def an_identity() -> str:
    """Unique among processes and their restarts; begins with the host's name, which in a pod is the pod's."""
    return f"{socket.gethostname()}_{uuid.uuid4()}"


async def lead(
    lease: Lease, work: Callable[[], Awaitable[bool]], *, stop: asyncio.Event, readiness: Readiness, metrics: Metrics
) -> None:
    """Runs `work` while the lease is ours. `work` ends on `stop` and says whether no write can be under way any more.

    Only then is the lease given back; otherwise it runs out. Raises Forbidden or Unauthorized where the Lease is not
    for us, and an ExceptionGroup with LeaseLost in it when it was lost.
    """
    readiness.needs(A_LOOK)
    if not await _acquired(lease, stop, readiness):
        return
    readiness.has(A_LOOK)
    readiness.role = "leading"
    metrics.leader.set(1)
    log.info("leading", extra={"identity": lease.identity})
    async with asyncio.TaskGroup() as group:
        keeping = group.create_task(lease.keep(), name="lease")
        at_rest = await work()
        keeping.cancel()
    metrics.leader.set(0)
    if at_rest:
        await lease.release()


async def _acquired(lease: Lease, stop: asyncio.Event, readiness: Readiness) -> bool:
    """Whether the lease was got; False when told to stop before that."""
    seen = ""

    def on_standby(holder: str) -> None:
        nonlocal seen
        readiness.has(A_LOOK)
        readiness.role = f"standing by, {holder or 'nobody'} leads"
        if holder != seen:
            log.info("standing by", extra={"identity": lease.identity, "leader": holder})
            seen = holder

    acquiring = asyncio.create_task(lease.acquire(on_standby), name="lease")
    stopping = asyncio.create_task(stop.wait(), name="stop")
    try:
        await asyncio.wait((acquiring, stopping), return_when=asyncio.FIRST_COMPLETED)
        if acquiring.done():
            acquiring.result()
            return True
        return False
    finally:
        for task in (acquiring, stopping):
            task.cancel()
        await asyncio.gather(acquiring, stopping, return_exceptions=True)
