"""Brings a deployment's children to what is wanted.

It applies what differs, leaves alone what is not ours, and tells when it undid what others did.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from shift_operator.api.signals import DeploymentKey
from shift_operator.cluster.cache import Cache
from shift_operator.cluster.client import Body, Cluster
from shift_operator.cluster.errors import ClusterError, Conflict, Forbidden, Invalid, NamespaceEnding, NotFound
from shift_operator.cluster.events import EventRecorder
from shift_operator.cluster.resources import REMOVABLE, WORKLOADS, Resource, resource_of
from shift_operator.controller import events
from shift_operator.controller.observe import Seen
from shift_operator.planning.difference import Difference, differences
from shift_operator.planning.manifest import Manifest, is_controlled_by, is_ours
from shift_operator.planning.names import workload_name
from shift_operator.planning.repair import removals

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trouble:
    """A child that is not as wanted, and why."""

    child: Manifest
    message: str
    name_taken: bool
    """Whether a foreign object has its name; else the API server refused it."""


class Children:
    """Remembers, per child, what it last applied or found in place: a difference from that was made by someone else."""

    def __init__(self, cluster: Cluster, cache: Cache, recorder: EventRecorder) -> None:
        self._cluster = cluster
        self._cache = cache
        self._recorder = recorder
        self._settled: dict[DeploymentKey, dict[str, str]] = {}

    async def bring(self, key: DeploymentKey, seen: Seen, wanted: Sequence[Manifest]) -> list[Trouble]:
        """Applies, in the order given, the children that are not as wanted. Returns those that cannot be brought there.

        A refusal of one child is not the others' trouble. Raises what may pass by itself: the queue comes again.
        """
        troubles = []
        for manifest in wanted:
            try:
                trouble = await self._bring(key, seen, manifest)
            except NamespaceEnding:
                raise
            except (Forbidden, Invalid) as error:
                trouble = await self._refused(seen, manifest, error)
            if trouble is not None:
                troubles.append(trouble)
        return troubles

    async def remove(self, seen: Seen, wanted: Sequence[Manifest]) -> list[Trouble]:
        """Deletes children of kinds that are wanted no more: what a spec switched off, a workload of the other kind.

        What is not the deployment's own child stays, whatever its name. Returns those that we may not delete.
        """
        troubles = []
        kinds = {manifest.kind for manifest in wanted}
        has_workload = any(resource.kind in kinds for resource in WORKLOADS)
        namespace, name = seen.deployment.namespace, workload_name(seen.deployment.name)
        for resource in REMOVABLE:
            live = self._cache.get(resource, namespace, name)
            if live is None or resource.kind in kinds or not is_ours(live, seen.deployment):
                continue
            if resource in WORKLOADS and not has_workload:
                continue  # none is wanted as long as it is not known which is there
            try:
                with contextlib.suppress(NotFound):
                    await self._cluster.delete(resource, live)
            except Forbidden as error:
                troubles.append(await self._refused(seen, Manifest(live), error))
                continue
            self._cache.forget(resource, namespace, name)
            log.info("removed", extra={"key": f"{namespace}/{name}", "child": f"{resource.kind}/{name}"})
        return troubles

    def forget(self, key: DeploymentKey) -> None:
        """The deployment is gone."""
        self._settled.pop(key, None)

    async def _bring(self, key: DeploymentKey, seen: Seen, manifest: Manifest) -> Trouble | None:
        resource, digest = _resource(manifest), _digest(manifest)
        live = self._cache.get(resource, manifest.namespace, manifest.name)
        after: Body | None = None
        if live is None:
            # Not known is not absent: a foreign object has no label to be watched by.
            with contextlib.suppress(Conflict):
                after = await self._cluster.create(manifest.body)
        if after is not None:
            found = differences(manifest, None)
        else:
            live = live or await self._cluster.get(resource, manifest.namespace, manifest.name)
            if not is_controlled_by(live, seen.deployment):
                return await self._taken(seen, manifest, live)
            found = differences(manifest, live)
            if found:
                after = await self._apply(manifest, live)
        settled = self._settled.setdefault(key, {})
        if after is not None:
            self._cache.put(resource, after)
            await self._applied(key, seen, manifest, found, by_others=settled.get(str(manifest)) == digest)
        settled[str(manifest)] = digest
        return None

    async def _apply(self, manifest: Manifest, live: Body) -> Body:
        try:
            return await self._cluster.apply(manifest.body)
        except Invalid:
            beside = removals(manifest, live)
            if not beside:
                raise
            resource = _resource(manifest)
            await self._cluster.remove_fields(resource, manifest.namespace, manifest.name, beside)
            return await self._cluster.apply(manifest.body)

    async def _applied(
        self, key: DeploymentKey, seen: Seen, manifest: Manifest, found: Sequence[Difference], *, by_others: bool
    ) -> None:
        log.info(
            "applied",
            extra={
                "key": str(key),
                "child": str(manifest),
                "differences": [str(difference) for difference in found[:10]],
            },
        )
        if by_others:
            await self._recorder.record(seen.body, events.child_repaired(manifest, found))

    async def _taken(self, seen: Seen, manifest: Manifest, live: Body) -> Trouble:
        owner = next((o for o in live["metadata"].get("ownerReferences") or () if o.get("controller")), None)
        whose = f"belongs to {owner['kind']} {owner['name']}" if owner else "was not made by this operator"
        advice = "it is left alone: delete it, or give the ShiftDeployment another name"
        message = f"{manifest.kind} {manifest.name} exists and {whose}; {advice}"
        await self._recorder.record(seen.body, events.name_taken(message))
        return Trouble(manifest, message, name_taken=True)

    async def _refused(self, seen: Seen, manifest: Manifest, error: ClusterError) -> Trouble:
        log.error("apply refused", extra={"child": str(manifest), "error": str(error)})
        await self._recorder.record(seen.body, events.write_refused(error))
        return Trouble(manifest, str(error), name_taken=False)


def _resource(manifest: Manifest) -> Resource:
    return resource_of(manifest.api_version, manifest.kind)


def _digest(manifest: Manifest) -> str:
    return hashlib.sha256(json.dumps(manifest.body, sort_keys=True).encode()).hexdigest()
