"""What pods say of themselves: whether they serve, and in which words they fail."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from shift_operator.api import labels
from shift_operator.api.conditions import DegradedReason
from shift_operator.planning.manifest import Body

_IMAGE_REASONS = {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"}
_CONTAINER_REASONS = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}

# An engine's own words; a log's last lines may be longer than what a condition should hold.
_MAX_WORDS = 600


@dataclass(frozen=True)
class PodFailure:
    """Why a pod does not serve and will not by waiting."""

    pod: str
    reason: DegradedReason
    message: str

    def __str__(self) -> str:
        return f"pod {self.pod}: {self.message}"


def engine_container(template: Body) -> Body:
    """The engine's container in a pod or a pod template, beside sidecars."""
    containers = template["spec"]["containers"]
    found: Body = next((c for c in containers if c["name"] == labels.ENGINE_CONTAINER), containers[0])
    return found


def is_ending(pod: Body) -> bool:
    """Whether the pod drains or is about to; it counts for nothing any more."""
    return bool(pod["metadata"].get("deletionTimestamp"))


def has_ended(pod: Body) -> bool:
    """Whether all its containers ended for good, or its kubelet refused it: it holds no GPU any more."""
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def is_ready(pod: Body) -> bool:
    """Whether the pod serves."""
    return not is_ending(pod) and _condition(pod, "Ready").get("status") == "True"


def failure(pod: Body) -> PodFailure | None:
    """Why the pod fails; None for one that serves, starts for the first time, or ends.

    An engine that ended and was started again counts as failing until it is ready, so that the reason stays to be read
    between two tries. A pod that its kubelet refused (UnexpectedAdmissionError) or ended (Evicted) is told in the
    kubelet's words, not in those that its engine had for being killed.
    """
    if is_ending(pod) or is_ready(pod):
        return None
    status = pod.get("status") or {}
    if status.get("phase") == "Failed" and status.get("reason"):
        node = (pod.get("spec") or {}).get("nodeName", "")
        words = f"{status['reason']} on node {node}: {status.get('message', '')}"
        return PodFailure(pod["metadata"]["name"], DegradedReason.POD_FAILED, _short(words))
    return next((found for found in (_failure(pod, container) for container in _containers(pod)) if found), None)


def failures(pods: Sequence[Body], *, missing: bool) -> list[PodFailure]:
    """Why pods fail. `missing`: replicas are; else what has ended was made up for.

    Pods that ended stay to be seen, and a node that refuses its pods leaves hundreds of them: they count until one made
    after them serves, and those that say the same count as one, the oldest, so that the words stay.
    """
    living = [pod for pod in pods if not has_ended(pod)]
    found = [why for pod in living if (why := failure(pod))]
    if not missing:
        return found
    served = max((_made(pod) for pod in living if is_ready(pod)), default="")
    ended = sorted((pod for pod in pods if has_ended(pod) and _made(pod) > served), key=_made)
    said: dict[tuple[DegradedReason, str], PodFailure] = {}
    for pod in ended:
        if why := failure(pod):
            said.setdefault((why.reason, why.message), why)
    return [*found, *said.values()]


def _made(pod: Body) -> str:
    """As the API server writes times, which are in order as text."""
    return str(pod["metadata"].get("creationTimestamp", ""))


def _failure(pod: Body, container: Mapping[str, Any]) -> PodFailure | None:
    """What is wrong with one container of a pod that does not serve, by its status."""
    state, last = container.get("state") or {}, container.get("lastState") or {}
    waiting = state.get("waiting") or {}
    name, why = pod["metadata"]["name"], waiting.get("reason", "")
    if why in _IMAGE_REASONS:
        words = f"image {container.get('image', '')}: {waiting.get('message') or why}"
        return PodFailure(name, DegradedReason.IMAGE_UNAVAILABLE, _short(words))
    if why in _CONTAINER_REASONS:
        return PodFailure(name, DegradedReason.CONTAINER_UNSTARTABLE, _short(waiting.get("message") or why))
    ended = state.get("terminated") or last.get("terminated") or {}
    if ended.get("exitCode"):
        if container["name"] == labels.ENGINE_CONTAINER:
            return PodFailure(name, DegradedReason.ENGINE_FAILED, _last_words("the engine", ended))
        words = _last_words(f"container {container['name']}", ended)
        return PodFailure(name, DegradedReason.CONTAINER_FAILED, words)
    return None


@dataclass(frozen=True)
class Unschedulable:
    """What the scheduler says of a pod that it finds no node for; `since` as the API server writes times."""

    since: str
    message: str


def unschedulable(pod: Body) -> Unschedulable | None:
    """The scheduler's own words about the pod; None for one that has a node, or that nobody has looked at yet."""
    scheduled = _condition(pod, "PodScheduled")
    if is_ending(pod) or scheduled.get("status") != "False" or scheduled.get("reason") != "Unschedulable":
        return None
    since = scheduled.get("lastTransitionTime") or pod["metadata"]["creationTimestamp"]
    return Unschedulable(since, _short(scheduled.get("message", "unschedulable")))


@dataclass(frozen=True)
class Waiting:
    """A pod without a node: since when, and why in the scheduler's words."""

    pod: str
    since: datetime
    message: str


def waiting(pods: Iterable[Body]) -> tuple[Waiting, ...]:
    """The pods that the scheduler finds no node for, in the order given."""
    found = []
    for pod in pods:
        verdict = unschedulable(pod)
        if verdict is not None:
            since = datetime.fromisoformat(verdict.since)
            found.append(Waiting(pod["metadata"]["name"], since, verdict.message))
    return tuple(found)


def is_placed(pod: Body) -> bool:
    """Whether the pod has a node and its GPUs."""
    return not is_ending(pod) and not has_ended(pod) and bool((pod.get("spec") or {}).get("nodeName"))


def waiting_for_node(pods: Iterable[Body]) -> str | None:
    """The scheduler's own words about the first pod that it finds no node for; None if all have one."""
    return next((f"pod {found.pod}: {found.message}" for found in waiting(pods)), None)


def _last_words(who: str, ended: Mapping[str, Any]) -> str:
    how = f"exit code {ended['exitCode']}"
    if ended.get("reason") == "OOMKilled":
        how = "killed for memory"
    words = _short(ended.get("message") or "")
    return f"{who} ended ({how}): {words}" if words else f"{who} ended ({how}) and left no message"


def _containers(pod: Body) -> list[Mapping[str, Any]]:
    """The statuses of the pod's containers: the engine's first, then those of the user's template."""
    status = pod.get("status") or {}
    statuses = [*(status.get("containerStatuses") or []), *(status.get("initContainerStatuses") or [])]
    return sorted(statuses, key=lambda one: one["name"] != labels.ENGINE_CONTAINER)


def _condition(pod: Body, type_: str) -> Mapping[str, Any]:
    conditions: list[Mapping[str, Any]] = (pod.get("status") or {}).get("conditions") or []
    return next((c for c in conditions if c["type"] == type_), {})


def _short(text: str) -> str:
    """One line; of a long text the end, where a log says what went wrong."""
    line = " ".join(text.split())
    return line if len(line) <= _MAX_WORDS else "…" + line[1 - _MAX_WORDS :]
