"""Keeps one ShiftProfile per kind of replica, from what the engines of its deployments measured at their start.

Which profile that is, and whether it is to be written, is planning's. Here is who speaks: of the deployments with one
key the first that was seen, by its oldest pod, as long as it has one. Two deployments whose flags differ would
otherwise write over each other for ever.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from shift_operator.api.profile import ProfileKey, ShiftProfile
from shift_operator.api.signals import DeploymentKey
from shift_operator.cluster.cache import Cache
from shift_operator.cluster.client import Cluster
from shift_operator.cluster.errors import Forbidden, Invalid
from shift_operator.cluster.resources import NODES, PROFILES
from shift_operator.controller.engines import Engines
from shift_operator.controller.observe import Seen
from shift_operator.planning.profile import Calibration, gpu_product, new_profile, profile_key, profile_name

log = logging.getLogger(__name__)


class Profiles:
    """`known` gives the profiles of the cluster; None while they cannot be seen, when none is written."""

    def __init__(
        self,
        cluster: Cluster,
        cache: Cache,
        engines: Engines,
        known: Callable[[], Iterable[ShiftProfile] | None],
    ) -> None:
        self._cluster = cluster
        self._cache = cache
        self._engines = engines
        self._known = known
        self._speakers: dict[str, DeploymentKey] = {}
        self._refused: set[str] = set()

    async def keep(self, key: DeploymentKey, seen: Seen) -> None:
        """Writes the profile of the deployment's replicas if there is news. Raises what may pass by itself."""
        known = self._known()
        measured = self._measured(seen)
        name = profile_name(measured[0]) if measured else None
        for other in [held for held, speaker in self._speakers.items() if speaker == key and held != name]:
            del self._speakers[other]
        if known is None or measured is None or name is None or self._speakers.setdefault(name, key) != key:
            return
        manifest = new_profile(*measured, known)
        if manifest is None:
            return
        try:
            body = await self._cluster.apply(manifest.body)
        except (Forbidden, Invalid) as error:
            if name not in self._refused:
                self._refused.add(name)
                log.warning("profile not written", extra={"key": str(key), "profile": name, "error": str(error)})
            return
        self._cache.put(PROFILES, body)
        log.info("profile written", extra={"key": str(key), "profile": name})

    def _measured(self, seen: Seen) -> tuple[ProfileKey, Calibration] | None:
        """What the oldest pod whose engine serves has measured; None where none has, or its GPU has no name."""
        for pod in sorted(seen.serving, key=lambda pod: str(pod["metadata"].get("creationTimestamp"))):
            calibration = self._engines.calibration(pod)
            if calibration is not None:
                gpu = gpu_product(self._cache.get(NODES, "", (pod.get("spec") or {}).get("nodeName", "")))
                key = profile_key(seen.deployment.spec, calibration, gpu) if gpu else None
                return (key, calibration) if key else None
        return None

    def forget(self, key: DeploymentKey) -> None:
        """The deployment is gone, and speaks for no key any more."""
        for name in [name for name, speaker in self._speakers.items() if speaker == key]:
            del self._speakers[name]
