"""Rollouts: the choice between beside and in place, and its loop with a Deployment controller until all is replaced."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shift_operator.api.rollout import Rollout, RolloutStrategy
from shift_operator.planning.rollout import AT_REST, Replacing, Situation, depends_on_room, strategy_of

SURGE, IN_PLACE = Replacing(1, 0), Replacing(0, 1)


def rollout(strategy: str = "Auto", surge: int = 1, unavailable: int | None = None) -> Rollout:
    return Rollout(strategy=RolloutStrategy(strategy), max_surge=surge, max_unavailable=unavailable)


@pytest.mark.parametrize(
    ("spec", "situation", "expected"),
    [
        (rollout(), AT_REST, SURGE),
        (rollout(), Situation(room=1), SURGE),
        (rollout(), Situation(room=0), IN_PLACE),
        (rollout(surge=3), Situation(room=2), Replacing(2, 0)),
        (rollout(surge=3), Situation(running=Replacing(2, 0)), Replacing(2, 0)),
        (rollout(unavailable=2), Situation(room=0), Replacing(0, 2)),
        # Begun beside, starved by someone who took the GPUs: in place. Begun in place: so to the end.
        (rollout(), Situation(running=SURGE), SURGE),
        (rollout(), Situation(running=SURGE, starved=True), IN_PLACE),
        (rollout(), Situation(running=IN_PLACE), IN_PLACE),
        # What the user rules out is not chosen, whatever the GPUs.
        (rollout(unavailable=0), Situation(room=0), SURGE),
        (rollout(unavailable=0), Situation(running=SURGE, starved=True), SURGE),
        (rollout(surge=0), Situation(room=9), IN_PLACE),
        (rollout("Surge", 2, 1), Situation(room=0), Replacing(2, 1)),
        (rollout("InPlace", 2, None), Situation(room=9), IN_PLACE),
        (rollout("InPlace", 2, 3), Situation(room=9), Replacing(0, 3)),
        (rollout("Recreate"), Situation(room=9), Replacing(recreate=True)),
    ],
)
def test_the_choice(spec: Rollout, situation: Situation, expected: Replacing) -> None:
    assert strategy_of(spec, situation) == expected


def test_what_was_stored_before_there_was_a_strategy_stays_as_it_was() -> None:
    for surge, unavailable in ((1, 0), (2, 0), (0, 1), (0, 3)):
        spec = rollout(surge=surge, unavailable=unavailable)
        assert not depends_on_room(spec)
        assert strategy_of(spec, AT_REST) == Replacing(surge, unavailable)


STRATEGIES, COUNTS = st.sampled_from(["Auto", "Surge", "InPlace"]), st.integers(0, 3)
BOUNDS = st.builds(rollout, STRATEGIES, COUNTS, st.none() | COUNTS)
ALLOWED = BOUNDS.filter(
    lambda r: (
        not (r.strategy == "Surge" and r.max_surge == 0)
        and not (r.strategy == "InPlace" and r.max_unavailable == 0)
        and not (r.max_surge == 0 and r.max_unavailable == 0)
    )
)


@dataclass
class World:
    """A Deployment controller (RollingUpdate, as its reconcileNewReplicaSet and reconcileOldReplicaSets do it) over a
    cluster with `free` places for replicas beyond those that hold one."""

    replicas: int
    free: int
    old: int = field(init=False)
    new: int = 0
    waiting: int = 0

    def __post_init__(self) -> None:
        self.old = self.replicas

    def control(self, strategy: Replacing) -> None:
        total = self.old + self.new + self.waiting
        more = min(self.replicas + strategy.max_surge - total, self.replicas - self.new - self.waiting)
        self.waiting += max(0, more)
        total = self.old + self.new + self.waiting
        fewer = total - (self.replicas - strategy.max_unavailable) - self.waiting
        gone = max(0, min(self.old, fewer))
        self.old -= gone
        self.free += gone

    def schedule(self) -> None:
        placed = min(self.waiting, max(0, self.free))
        self.waiting -= placed
        self.free -= placed
        self.new += placed

    @property
    def is_done(self) -> bool:
        return self.new == self.replicas and self.old == 0


@given(
    spec=ALLOWED,
    replicas=st.integers(1, 6),
    free=st.integers(0, 4),
    others=st.lists(st.integers(-2, 2), max_size=8),
    seen_room=st.booleans(),
)
def test_every_rollout_ends_and_never_leaves_its_bounds(
    spec: Rollout, replicas: int, free: int, others: list[int], *, seen_room: bool
) -> None:
    """`others` take and free places while it runs; a place taken between our look and the scheduler's is among that."""
    world = World(replicas, free)
    strategy = strategy_of(spec, Situation(room=free if seen_room and depends_on_room(spec) else None))
    allowed_missing = 1 if spec.max_unavailable is None else spec.max_unavailable
    changes = 0
    for step in range(60):
        if world.is_done:
            break
        if step < len(others):
            world.free = max(0, world.free + others[step])
        world.control(strategy)
        assert world.old + world.new >= replicas - allowed_missing
        assert world.old + world.new + world.waiting <= replicas + spec.max_surge
        world.schedule()
        # A pod that waits after the scheduler looked has waited too long: deadlines are of no account here.
        chosen = strategy_of(spec, Situation(running=strategy, starved=world.waiting > 0))
        changes += chosen != strategy
        strategy = chosen
    assert changes <= 1, "beside to in place, and never back"
    waits_for_gpus = spec.max_unavailable == 0 or (spec.strategy is RolloutStrategy.SURGE and not spec.max_unavailable)
    was_robbed = any(change < 0 for change in others)
    assert world.is_done or (world.free == 0 and world.waiting > 0 and (waits_for_gpus or was_robbed))


def test_a_strategy_is_read_from_what_it_was_written_as() -> None:
    for strategy in (SURGE, IN_PLACE, Replacing(2, 1), Replacing(recreate=True)):
        assert Replacing.of({"spec": {"strategy": strategy.to_body()}}) == strategy
    by_others = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%"}}
    assert Replacing.of({"spec": {"strategy": by_others}}) == SURGE
