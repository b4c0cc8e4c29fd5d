"""Rollouts, as one begins and as one fails: looks for free GPUs where that decides how pods are replaced, and for the
ReplicaSet to go back to. What it chooses is planning's; what it must remember is in the child Deployment."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from shift_operator.api.conditions import ConditionStatus
from shift_operator.api.shiftdeployment import ShiftDeployment
from shift_operator.cluster.client import Body, Cluster
from shift_operator.cluster.errors import NotFound
from shift_operator.cluster.resources import REPLICA_SETS
from shift_operator.controller.free_gpus import FreeGpus
from shift_operator.controller.observe import Seen
from shift_operator.planning.capacity import capacity_available
from shift_operator.planning.groups import counts_of, has_groups, nodes_of
from shift_operator.planning.manifest import Manifest
from shift_operator.planning.names import workload_name
from shift_operator.planning.rollback import (
    GivenUp,
    WentBack,
    changes_pods,
    must_give_up,
    standing,
    template_of,
    went_back,
)
from shift_operator.planning.rollout import Replacing, Situation, depends_on_room, strategy_of

log = logging.getLogger(__name__)

REMEMBERED = 1024
"""Pod templates gone back to that are kept; the oldest is asked for again."""


class Rollouts:
    """The choices for all deployments."""

    def __init__(self, cluster: Cluster, gpus: FreeGpus, now: Callable[[], datetime]) -> None:
        self._cluster = cluster
        self._gpus = gpus
        self._now = now
        self._templates: OrderedDict[tuple[str, str, str], Mapping[str, Any]] = OrderedDict()

    async def instead(self, seen: Seen, wanted: Manifest) -> WentBack | None:
        """What to run in place of `wanted`, the child Deployment by the spec: None, unless its rollout was given up or
        must be now."""
        deployment, live = seen.deployment, seen.child
        if live is None or has_groups(live) or has_groups(wanted.body):
            return None  # a LeaderWorkerSet keeps no revisions that could be gone back to
        given_up = standing(deployment, live)
        if given_up is not None:
            template = await self._template(deployment, given_up)
            return None if template is None else WentBack(given_up, template)
        good = deployment.status.good_revision if deployment.status else None
        if good is None or not must_give_up(deployment, wanted, live):
            return None
        replica_set = await self._replica_set(deployment, good)
        found = None if replica_set is None else went_back(deployment, live, replica_set, seen.pods)
        if found is not None:
            fields = {"key": f"{deployment.namespace}/{deployment.name}", "why": found.given_up.message}
            log.warning("rolling back", extra=fields)
        return found

    async def _template(self, deployment: ShiftDeployment, given_up: GivenUp) -> Mapping[str, Any] | None:
        """The pod template that was gone back to. A revision's never changes, so that it is asked for once."""
        key = (deployment.namespace, deployment.metadata.uid, given_up.revision)
        if key not in self._templates:
            replica_set = await self._replica_set(deployment, given_up.revision)
            if replica_set is None:
                return None
            self._templates[key] = template_of(replica_set)
            if len(self._templates) > REMEMBERED:
                self._templates.popitem(last=False)
        return self._templates[key]

    async def _replica_set(self, deployment: ShiftDeployment, revision: str) -> Body | None:
        """The ReplicaSet of a revision, which its Deployment's controller names by it; None if it is gone."""
        name = f"{workload_name(deployment.name)}-{revision}"
        try:
            return await self._cluster.get(REPLICA_SETS, deployment.namespace, name)
        except NotFound:
            return None

    async def choose(self, seen: Seen, workload: Manifest) -> Replacing:
        """How pods are to be replaced when `workload` is applied to what is there."""
        situation = await self._situation(seen, workload)
        chosen = strategy_of(seen.deployment.spec.rollout, situation)
        if seen.child is not None and chosen != Replacing.of(seen.child):
            log.info(
                "replacing pods",
                extra={
                    "key": f"{seen.deployment.namespace}/{seen.deployment.name}",
                    "strategy": chosen.to_body(),
                    "room": situation.room,
                    "starved": situation.starved,
                },
            )
        return chosen

    async def _situation(self, seen: Seen, workload: Manifest) -> Situation:
        if seen.child is None:
            return Situation()
        if not counts_of(seen.child, seen.pods).settled(seen.child["spec"].get("replicas", 1)):
            capacity = capacity_available(seen.deployment, seen.pods, self._now())
            return Situation(Replacing.of(seen.child), starved=capacity.status is ConditionStatus.FALSE)
        if depends_on_room(seen.deployment.spec.rollout) and changes_pods(workload, seen.child):
            room = await self._gpus.room(seen.deployment, nodes_per_replica=nodes_of(workload.body))
            return Situation(room=room)
        return Situation()
