"""Brings a deployment's children to what is wanted.

It applies what differs, leaves alone what is not ours, and tells when it undid what others did.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from shift_operator.api.signals import DeploymentKey
from shift_operator.cluster.cache import Cache
from shift_operator.cluster.client import Body, Cluster
from shift_operator.cluster.errors import ClusterError, Forbidden, Invalid, NamespaceEnding, NotFound
from shift_operator.cluster.events import EventRecorder
from shift_operator.cluster.resources import Resource, resource_of
from shift_operator.controller import events
from shift_operator.controller.observe import Seen
from shift_operator.planning.difference import Difference, differences
from shift_operator.planning.manifest import Manifest, is_controlled_by

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
        settled = self._settled.setdefault(key, {})
        for manifest in wanted:
            live = await self._live(manifest)
            if live is not None and not is_controlled_by(live, seen.deployment):
                troubles.append(await self._taken(seen, manifest, live))
                continue
            digest = _digest(manifest)
            found = differences(manifest, live)
            if found:
                try:
                    self._cache.put(_resource(manifest), await self._cluster.apply(manifest.body))
                except NamespaceEnding:
                    raise
                except (Forbidden, Invalid) as error:
                    troubles.append(await self._refused(seen, manifest, error))
                    continue
                await self._applied(key, seen, manifest, found, by_others=settled.get(str(manifest)) == digest)
            settled[str(manifest)] = digest
        return troubles

    def forget(self, key: DeploymentKey) -> None:
        """The deployment is gone."""
        self._settled.pop(key, None)

    async def _live(self, manifest: Manifest) -> Body | None:
        """The live child. One that the cache lacks is asked for: a foreign object has no label to be watched by."""
        resource = _resource(manifest)
        live = self._cache.get(resource, manifest.namespace, manifest.name)
        if live is not None:
            return live
        try:
            return await self._cluster.get(resource, manifest.namespace, manifest.name)
        except NotFound:
            return None

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
