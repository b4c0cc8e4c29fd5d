"""What pods say of themselves: whether they serve, and in which words they fail."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
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


def is_ending(pod: Body) -> bool:
    """Whether the pod drains or is about to; it counts for nothing any more."""
    return bool(pod["metadata"].get("deletionTimestamp"))


def is_ready(pod: Body) -> bool:
    """Whether the pod serves."""
    return not is_ending(pod) and _condition(pod, "Ready").get("status") == "True"


def failure(pod: Body) -> PodFailure | None:
    """Why the pod fails; None for one that serves, starts for the first time, or ends.

    An engine that ended and was started again counts as failing until it is ready, so that the reason stays to be read
    between two tries.
    """
    if is_ending(pod) or is_ready(pod):
        return None
    container = _engine(pod)
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
        return PodFailure(name, DegradedReason.ENGINE_FAILED, _last_words(ended))
    return None


def waiting_for_node(pods: Iterable[Body]) -> str | None:
    """The scheduler's own words about the first pod that it finds no node for; None if all have one."""
    for pod in pods:
        scheduled = _condition(pod, "PodScheduled")
        if not is_ending(pod) and scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable":
            return f"pod {pod['metadata']['name']}: {_short(scheduled.get('message', 'unschedulable'))}"
    return None


def _last_words(ended: Mapping[str, Any]) -> str:
    how = f"exit code {ended['exitCode']}"
    if ended.get("reason") == "OOMKilled":
        how = "killed for memory"
    words = _short(ended.get("message") or "")
    return f"the engine ended ({how}): {words}" if words else f"the engine ended ({how}) and left no message"


def _engine(pod: Body) -> Mapping[str, Any]:
    statuses: list[Mapping[str, Any]] = (pod.get("status") or {}).get("containerStatuses") or []
    return next((status for status in statuses if status["name"] == labels.ENGINE_CONTAINER), {})


def _condition(pod: Body, type_: str) -> Mapping[str, Any]:
    conditions: list[Mapping[str, Any]] = (pod.get("status") or {}).get("conditions") or []
    return next((c for c in conditions if c["type"] == type_), {})


def _short(text: str) -> str:
    """One line; of a long text the end, where a log says what went wrong."""
    line = " ".join(text.split())
    return line if len(line) <= _MAX_WORDS else "…" + line[1 - _MAX_WORDS :]
