"""Writes the status of each ClusterShiftPolicy, where it has news.

Only an operator of the whole cluster does: several that serve parts of it would each write what it sees, over the
others'.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime

from shift_operator.api.policy import ClusterShiftPolicy
from shift_operator.cluster.cache import Cache
from shift_operator.cluster.client import Cluster
from shift_operator.cluster.errors import ClusterError, LeaseLost, NotFound
from shift_operator.cluster.resources import POLICIES
from shift_operator.planning.policy_status import PolicyObserved, policy_status_of

log = logging.getLogger(__name__)


class PolicyReports:
    """Writes through `cluster`, and keeps the cache as new as its writes. `policies` gives those of the cluster."""

    def __init__(
        self,
        cluster: Cluster,
        cache: Cache,
        policies: Callable[[], list[ClusterShiftPolicy]],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._cluster = cluster
        self._cache = cache
        self._policies = policies
        self._now = now

    async def report(self, name: str, observed: PolicyObserved) -> None:
        """Writes what a tick of a policy saw. A write that fails is logged: the next tick makes up for it."""
        policy = next((policy for policy in self._policies() if policy.name == name), None)
        if policy is None:
            return
        status = policy_status_of(policy, observed, self._now())
        if status == policy.status:
            return
        try:
            body = await self._cluster.apply_status(POLICIES, None, name, status.to_body())
        except NotFound:
            self._cache.forget(POLICIES, "", name)
        except LeaseLost:
            raise
        except ClusterError as error:
            log.warning("policy status not written", extra={"policy": name, "error": str(error)})
        else:
            self._cache.put(POLICIES, body)
