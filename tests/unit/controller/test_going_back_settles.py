"""Going back over any history of edits, failures and restarts: only the spec's pods or good ones are asked for, and all
comes to rest. The Deployment controller is modelled here; tests/integration has the real one."""

from __future__ import annotations

import asyncio
import copy
import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from shift_operator.api import labels
from shift_operator.api.shiftdeployment import ShiftDeployment
from shift_operator.cluster.errors import NotFound
from shift_operator.controller.observe import Seen
from shift_operator.controller.rollouts import Rollouts
from shift_operator.planning.conditions import Counts
from shift_operator.planning.replicas import wanted_replicas
from shift_operator.planning.rollback import GivenUp, good_revision
from shift_operator.planning.workload import workload

from tests.unit.examples import examples

Body = dict[str, Any]
NOW = datetime(2026, 1, 2, tzinfo=UTC)
GOOD, BAD = ["good:1", "good:2"], ["bad:1", "bad:2"]
OWNED = {"manager": labels.FIELD_MANAGER, "operation": "Apply", "fieldsV1": {"f:spec": {"f:template": {}}}}


def revision_of(template: Body) -> str:
    return hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:10]


def image_of(spec: Body) -> str:
    return str(spec["engine"]["image"])


def image(template: Body) -> str:
    return str(template["spec"]["containers"][0]["image"])


class Controllers:
    """The child Deployment and its ReplicaSets, as Kubernetes' controllers and the API server treat them."""

    def __init__(self) -> None:
        self.live: Body | None = None
        self.replica_sets: dict[str, Body] = {}
        self.pods: list[Body] = []

    async def get(self, resource: Any, namespace: str, name: str) -> Body:
        """Of a Cluster this is all that going back needs."""
        revision = name.removeprefix("chat-")
        if revision not in self.replica_sets:
            raise NotFound(f"no ReplicaSet {name}")
        return self.replica_sets[revision]

    def apply(self, body: Body) -> bool:
        """Whether something changed."""
        before = self.live
        known = before or {"metadata": {"generation": 0}, "status": {}}
        annotations = {**body["metadata"].get("annotations", {}), labels.REVISION: "1"}
        metadata = {**body["metadata"], "annotations": annotations, "managedFields": [OWNED]}
        changed = before is None or known["spec"] != body["spec"]
        generation = known["metadata"]["generation"] + changed
        self.live = {**copy.deepcopy(body), "metadata": {**metadata, "generation": generation}}
        self.live["status"] = known["status"]
        return changed or before is None or before["metadata"]["annotations"] != annotations

    def roll(self, *, deadline_over: bool) -> None:
        """The controllers go as far as they can: to the end with a good image; else the newest pods never serve."""
        if self.live is None:
            return
        template, replicas = self.live["spec"]["template"], self.live["spec"]["replicas"]
        revision = revision_of(template)
        if revision not in self.replica_sets:
            stamped = copy.deepcopy(template)
            stamped["metadata"]["labels"][labels.POD_TEMPLATE_HASH] = revision
            metadata = {"labels": {labels.POD_TEMPLATE_HASH: revision}, "annotations": {labels.REVISION: "1"}}
            self.replica_sets[revision] = {"metadata": metadata, "spec": {"template": stamped}}
        done = image(template) in GOOD or replicas == 0
        reason = "NewReplicaSetAvailable" if done else "ReplicaSetUpdated"
        if not done and deadline_over:
            reason = "ProgressDeadlineExceeded"
        updated = replicas if done else 1
        self.live["status"] = {
            "observedGeneration": self.live["metadata"]["generation"],
            "replicas": replicas if done else replicas + 1,
            "updatedReplicas": updated,
            "readyReplicas": replicas,
            "availableReplicas": replicas if done else replicas - 1,
            "conditions": [{"type": "Progressing", "reason": reason}],
        }
        label = {"labels": {labels.POD_TEMPLATE_HASH: revision}}
        self.pods = [{"metadata": {"name": f"chat-{n}", **label}, "status": {}} for n in range(updated)]


class World:
    """One ShiftDeployment under an operator. Every method is something that may happen next."""

    def __init__(self, image: str) -> None:
        self.spec: Body = {
            "model": {"uri": "file:///models/tiny"},
            "engine": {"image": image},
            "parallelism": {"gpusPerReplica": 2, "degree": {"sequence": 2, "tensor": 1}},
            "replicas": 2,
            "rollout": {"progressDeadlineSeconds": 60},
        }
        self.good: str | None = None
        self.changed = False
        self.controllers = Controllers()
        self.restart()
        self.go_on()

    def restart(self) -> None:
        """Another process of the operator."""
        cluster: Any = self.controllers
        no_cache: Any = None  # going back reads none
        self.rollouts = Rollouts(cluster, no_cache, lambda: NOW)

    def edit(self, field: str, value: Any) -> None:
        """Of the spec, or of spec.rollout."""
        part = self.spec["rollout"] if field in ("autoRollback", "strategy") else self.spec
        part[field] = value

    def wait(self, *, past_the_deadline: bool) -> None:
        """The controllers work, the operator does not look."""
        self.controllers.roll(deadline_over=past_the_deadline)

    def reconcile(self) -> None:
        """As the Reconciler does it, with the part of the status that counts here."""
        status = {"goodRevision": self.good} if self.good else {}
        metadata = {"name": "chat", "namespace": "prod", "uid": "u", "generation": 1}
        deployment = ShiftDeployment.from_body({"metadata": metadata, "spec": self.spec, "status": status})
        live = self.controllers.live
        seen = Seen({}, deployment, tuple(self.controllers.pods), live, None)
        replicas = wanted_replicas(deployment, None, live)
        instead = asyncio.run(self.rollouts.instead(seen, workload(deployment, replicas)))
        self.changed = self.controllers.apply(dict(workload(deployment, replicas, instead=instead).body))
        self.good = good_revision(replicas, Counts.of(self.controllers.live), self.controllers.pods) or self.good

    def go_on(self) -> None:
        """Long enough for a rollout to end or to exceed its deadline, and for the operator to see it."""
        self.reconcile()
        self.wait(past_the_deadline=True)
        self.reconcile()

    @property
    def asks_for(self) -> Body:
        """The child Deployment."""
        assert self.controllers.live is not None
        return self.controllers.live

    @property
    def runs(self) -> str:
        """The image that the child Deployment asks for."""
        return image(self.asks_for["spec"]["template"])


EVENTS: dict[str, Callable[[World], None]] = {
    "good:1": lambda world: world.edit("engine", {"image": "good:1"}),
    "good:2": lambda world: world.edit("engine", {"image": "good:2"}),
    "bad:1": lambda world: world.edit("engine", {"image": "bad:1"}),
    "bad:2": lambda world: world.edit("engine", {"image": "bad:2"}),
    "suspend": lambda world: world.edit("suspend", True),
    "resume": lambda world: world.edit("suspend", False),
    "3 replicas": lambda world: world.edit("replicas", 3),
    "autoRollback off": lambda world: world.edit("autoRollback", False),
    "autoRollback on": lambda world: world.edit("autoRollback", True),
    "surge": lambda world: world.edit("strategy", "Surge"),
    "some seconds": lambda world: world.wait(past_the_deadline=False),
    "a deadline": lambda world: world.wait(past_the_deadline=True),
    "reconcile": World.reconcile,
    "go on": World.go_on,
    "restart": World.restart,
}
# What happens between edits happens more often.
EVENT = st.sampled_from([*EVENTS, "a deadline", "reconcile", "reconcile", "go on"])


@settings(max_examples=examples(200), deadline=None)
@given(st.sampled_from(GOOD + BAD), st.lists(EVENT, min_size=8, max_size=25))
def test_any_history_comes_to_rest_with_the_specs_pods_or_good_ones(first: str, history: list[str]) -> None:
    world = World(first)
    for event in history:
        EVENTS[event](world)
        given_up = GivenUp.of(world.asks_for)
        assert given_up is None or world.runs in GOOD, "what it went back to had served"
        assert world.good is None or image(world.controllers.replica_sets[world.good]["spec"]["template"]) in GOOD

    world.go_on()
    world.go_on()
    world.reconcile()
    assert not world.changed
    asked, given_up = image_of(world.spec), GivenUp.of(world.asks_for)
    may_go_back = world.good is not None and world.spec["rollout"].get("autoRollback", True)
    if asked in GOOD or not may_go_back:
        assert (world.runs, given_up) == (asked, None)
    elif world.asks_for["spec"]["replicas"] > 0:
        assert world.runs in GOOD
        assert given_up is not None


def test_an_edit_is_tried_whatever_failed_before_it() -> None:
    world = World("good:1")
    EVENTS["bad:1"](world)
    world.reconcile()
    world.wait(past_the_deadline=True)
    EVENTS["good:2"](world)
    world.reconcile()
    world.reconcile()  # the Deployment's status still has the deadline of the rollout before
    assert (world.runs, GivenUp.of(world.asks_for)) == ("good:2", None)

    EVENTS["bad:1"](world)
    world.go_on()
    EVENTS["good:1"](world)
    world.reconcile()
    assert (world.runs, GivenUp.of(world.asks_for)) == ("good:1", None)
