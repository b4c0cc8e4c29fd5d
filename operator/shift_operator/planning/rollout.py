"""How the Deployment controller is to replace replicas: beside the old ones, or in their places.

A choice lasts for one rollout and is kept where it acts, in the child Deployment's strategy. While a rollout runs it
changes one way only, from beside to in place, so that no pod is started and ended in turns.
"""

from dataclasses import dataclass
from typing import Any

from shift_operator.api.rollout import Rollout, RolloutStrategy
from shift_operator.planning.manifest import Body

# LeaderWorkerSet hands the bound on to its StatefulSet, for which Kubernetes 1.37 refuses 0. It rounds this one down to
# 0, of less than 100 replicas.
_NONE_UNAVAILABLE = "1%"


@dataclass(frozen=True)
class Replacing:
    """A Deployment's strategy. `recreate`: all old pods end first; else the bounds hold. Unit: pods."""

    max_surge: int = 0
    max_unavailable: int = 0
    recreate: bool = False

    @property
    def in_place(self) -> bool:
        """Whether an old pod ends before its successor starts, so that no spare GPU is needed."""
        return self.recreate or self.max_surge == 0

    def to_body(self) -> dict[str, Any]:
        if self.recreate:
            return {"type": "Recreate"}
        bounds = {"maxSurge": self.max_surge, "maxUnavailable": self.max_unavailable}
        return {"type": "RollingUpdate", "rollingUpdate": bounds}

    def to_group_body(self) -> dict[str, Any]:
        """As a LeaderWorkerSet's rolloutStrategy. That knows no Recreate: no pod is left where its templates change."""
        surge, unavailable = (0, 1) if self.recreate else (self.max_surge, self.max_unavailable)
        bounds = {"maxSurge": surge, "maxUnavailable": unavailable or _NONE_UNAVAILABLE, "partition": 0}
        return {"type": "RollingUpdate", "rollingUpdateConfiguration": bounds}

    @classmethod
    def of(cls, workload: Body) -> "Replacing":
        """The strategy that a live Deployment or LeaderWorkerSet has."""
        spec = workload.get("spec") or {}
        strategy = spec.get("strategy") or spec.get("rolloutStrategy") or {}
        if strategy.get("type") == "Recreate":
            return cls(recreate=True)
        bounds = strategy.get("rollingUpdate") or strategy.get("rollingUpdateConfiguration") or {}
        # Someone else may have written a percentage; what we write is repaired, so its value does not matter here.
        surge, unavailable = bounds.get("maxSurge", 0), bounds.get("maxUnavailable", 0)
        return cls(surge if isinstance(surge, int) else 1, unavailable if isinstance(unavailable, int) else 0)


@dataclass(frozen=True)
class Situation:
    """What a choice depends on.

    `running` is the strategy of the rollout that runs, None while none does. `starved`: a pod has waited for a node
    past capacityDeadlineSeconds. `room`: where a rollout is about to begin, the replicas that fit beside those that
    run; None where that is unknown, or nothing begins.
    """

    running: Replacing | None = None
    starved: bool = False
    room: int | None = None


AT_REST = Situation()


def strategy_of(rollout: Rollout, situation: Situation) -> Replacing:
    """The strategy for this rollout, or for the next one while none runs. Within the bounds of the spec, always."""
    match rollout.strategy:
        case RolloutStrategy.RECREATE:
            return Replacing(recreate=True)
        case RolloutStrategy.SURGE:
            return Replacing(rollout.max_surge, rollout.max_unavailable or 0)
        case RolloutStrategy.IN_PLACE:
            return _in_place(rollout)
    if must_not_surge(rollout) or (may_be_in_place(rollout) and _lacks_gpus(situation)):
        return _in_place(rollout)
    # A rollout that began with room for one does not grow: the pods beyond it would wait for a node.
    began = situation.running.max_surge if situation.running and not situation.running.in_place else None
    limits = [limit for limit in (began, situation.room) if limit]
    return Replacing(min([rollout.max_surge, *limits]), 0)


def must_not_surge(rollout: Rollout) -> bool:
    """Whether the user allows no replica beyond spec.replicas."""
    return rollout.max_surge == 0


def may_be_in_place(rollout: Rollout) -> bool:
    """Whether the user allows a replica to be missing."""
    return rollout.max_unavailable != 0


def depends_on_room(rollout: Rollout) -> bool:
    """Whether free GPUs make a difference to how a rollout begins."""
    return rollout.strategy is RolloutStrategy.AUTO and not must_not_surge(rollout) and may_be_in_place(rollout)


def _lacks_gpus(situation: Situation) -> bool:
    if situation.running is not None:
        return situation.running.in_place or situation.starved
    return situation.room == 0


def _in_place(rollout: Rollout) -> Replacing:
    return Replacing(0, 1 if rollout.max_unavailable is None else rollout.max_unavailable)
