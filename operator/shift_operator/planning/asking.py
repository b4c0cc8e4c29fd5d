"""How many of the wanted replicas are asked of the scheduler now: fewer where the cluster has no GPUs for all of them.

    wanted ── asked ── a pod waits past capacityDeadlineSeconds ── released: those that have a node stay
                ^                                                                │
                └─── a pause that doubles with each try in vain, or GPUs free ───┘

A pod that waits for nothing holds a place in queues and quotas and, by its priority, evicts others. While a rollout
runs nothing is released: what then waits is the rollout's affair (`rollout.py`). A replica that no nodes can have
(`span.py`) is not asked for at all.

The state is `status.release`. Lost with a crash, it costs one try.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from shift_operator.api.base import to_the_second
from shift_operator.api.shiftdeployment import ShiftDeployment
from shift_operator.api.status import CapacityRelease
from shift_operator.planning.groups import counts_of, placed_replicas
from shift_operator.planning.manifest import Body
from shift_operator.planning.pods import Waiting, is_ending, waiting
from shift_operator.planning.rollback import attempt_of

LONGEST_PAUSE = timedelta(minutes=10)
"""Between two tries, unless capacityDeadlineSeconds is longer."""


@dataclass(frozen=True)
class Ask:
    """`replicas`: how many there should be now. `release`: why these are fewer than wanted, or were until this try.
    `obstacle`: why no replica can have its nodes, where that is so."""

    replicas: int
    release: CapacityRelease | None = None
    obstacle: str | None = None

    def retries(self, now: datetime) -> bool:
        """Whether what was released is being asked for again."""
        return self.release is not None and now >= self.release.retry_time


def next_ask(
    deployment: ShiftDeployment,
    wanted: int,
    workload: Body | None,
    pods: Sequence[Body],
    now: datetime,
    obstacle: str | None = None,
    *,
    freed: bool = False,
) -> Ask:
    """What to ask for now. `workload`: the live one. `obstacle`: see `span.next_span`. `freed`: there is more room than
    when replicas were released, so that they are asked for at once."""
    placed = placed_replicas(pods)
    if obstacle is not None:
        return Ask(min(wanted, placed), obstacle=obstacle)
    if placed >= wanted:
        return Ask(wanted)
    before = deployment.status.release if deployment.status else None
    if before is not None and (wanted <= before.replicas or before.attempt != attempt_of(deployment)):
        before = None
    if before is not None and freed and now < before.retry_time:
        before = before.model_copy(update={"retry_time": to_the_second(now)})
    if before is not None and now < before.retry_time:
        return Ask(min(wanted, max(before.replicas, placed)), before)
    deadline = capacity_deadline(deployment)
    if before is not None and now < before.retry_time + deadline:
        return Ask(wanted, before)
    late = first(pod for pod in waiting(pods) if now >= pod.since + deadline)
    # A pod that ends gives its GPUs to one that waits.
    if late is None or counts_of(workload, pods).is_rolling_out or any(map(is_ending, pods)):
        return Ask(wanted, before)
    tries = 1 if before is None else before.tries + 1
    pause = min(deadline * 2 ** min(tries - 1, 20), max(deadline, LONGEST_PAUSE))
    release = CapacityRelease(
        replicas=placed,
        tries=tries,
        retry_time=now + pause,
        attempt=attempt_of(deployment),
        message=f"pod {late.pod}: {late.message}",
    )
    return Ask(placed, release)


def seconds_to_next_ask(deployment: ShiftDeployment, ask: Ask, now: datetime) -> float | None:
    """When `next_ask` will answer differently by the passing of time alone; None where it will not."""
    if ask.release is None:
        return None
    times = (ask.release.retry_time, ask.release.retry_time + capacity_deadline(deployment))
    return min((seconds for time in times if (seconds := (time - now).total_seconds()) > 0), default=None)


def first(pods: Iterable[Waiting]) -> Waiting | None:
    """The one that has waited for longest."""
    return min(pods, key=lambda pod: (pod.since, pod.pod), default=None)


def capacity_deadline(deployment: ShiftDeployment) -> timedelta:
    return timedelta(seconds=deployment.spec.rollout.capacity_deadline_seconds)
