"""While pods of one degree are replaced by pods of another, each kind reads a file of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shift_operator.api.schedule import Degree
from shift_operator.api.shiftdeployment import ShiftDeployment
from shift_operator.planning.degree import degree_of, started_with
from shift_operator.planning.plan import plan
from shift_operator.planning.schedule import next_schedule, previous_schedule
from shift_operator.planning.schedule_files import file_for, file_of, schedule_files
from shift_operator.planning.workload import workload

Build = Callable[..., ShiftDeployment]
Body = dict[str, Any]
SP8, SP4, SP2 = (Degree(sequence=sequence, tensor=8 // sequence) for sequence in (8, 4, 2))


def template_of(workload: Body) -> Body:
    template: Body = workload["spec"]["template"]
    return template


@dataclass
class Site:
    """What is there of the deployment, and the reconciles that bring it to what is wanted."""

    deployment: ShiftDeployment
    child: Body | None = None
    config_map: Body | None = None
    old: list[Body] = field(default_factory=list)
    """Templates of pods that a rollout has not replaced yet."""

    def reconcile(self, degree: Degree, threshold: int | None = None) -> None:
        """As the controller does; the rollout that may begin stands still."""
        deployment = started_with(self.deployment, degree)
        file = file_for(degree, self.child, self.config_map)
        previous = previous_schedule(self.config_map, None, file)
        schedule = next_schedule(deployment.spec, previous, threshold, degree)
        files = schedule_files(file, schedule, deployment.spec, threshold, self.child, self.config_map)
        wanted = plan(deployment, schedule, 4, file=file, files=files)
        (self.config_map,) = (dict(m.body) for m in wanted if m.kind == "ConfigMap")
        (child,) = (dict(m.body) for m in wanted if m.kind == "Deployment")
        if self.child is not None and template_of(child) != template_of(self.child):
            self.old.append(template_of(self.child))
        self.child = child | {"status": {"observedGeneration": 1, "replicas": 4, "updatedReplicas": 4 - len(self.old)}}

    def complete(self) -> None:
        """Every pod is of the newest template."""
        self.old.clear()
        assert self.child is not None
        self.child["status"]["updatedReplicas"] = 4

    def files(self) -> dict[str, Body]:
        assert self.config_map is not None
        return {name: json.loads(text) for name, text in self.config_map["data"].items()}

    def read_by(self, template: Body) -> Body:
        """The file that pods of this template read."""
        return self.files()[file_of(template)]


@pytest.fixture
def site(a_deployment: Build) -> Site:
    return Site(a_deployment(parallelism={"gpusPerReplica": 8, "degree": SP8.to_body()}))


def large(schedule: Body) -> tuple[int, int]:
    last = schedule["ranges"][-1]
    return last["sequence"], last["tensor"]


def test_a_new_deployment_has_the_contracts_one_file(site: Site) -> None:
    site.reconcile(SP8)
    site.reconcile(SP8)
    assert list(site.files()) == ["schedule.json"]
    assert site.child is not None
    assert "/etc/shift/schedule.json" in template_of(site.child)["spec"]["containers"][0]["args"]


def test_in_a_rollout_old_pods_keep_their_degree_and_confirm_the_new_generation(site: Site) -> None:
    site.reconcile(SP8)
    site.reconcile(SP4)
    site.reconcile(SP4)
    (old,) = site.old
    assert site.child is not None
    new = template_of(site.child)
    assert (file_of(old), file_of(new)) == ("schedule.json", "schedule-4x2.json")
    assert (large(site.read_by(old)), large(site.read_by(new))) == ((8, 1), (4, 2))
    assert site.read_by(old)["generation"] == site.read_by(new)["generation"] == 2


def test_a_threshold_that_moves_in_the_meantime_reaches_both(site: Site) -> None:
    site.reconcile(SP8)
    site.reconcile(SP4)
    site.reconcile(SP4, threshold=1000)
    for schedule in site.files().values():
        assert (schedule["ranges"][0]["upToTokens"], schedule["generation"]) == (1000, 3)


def test_once_all_pods_are_new_one_file_is_left_and_they_are_not_restarted(site: Site) -> None:
    site.reconcile(SP8)
    site.reconcile(SP4)
    site.complete()
    before = site.child
    site.reconcile(SP4)
    assert list(site.files()) == ["schedule-4x2.json"]
    assert site.child == before
    assert site.config_map is not None
    assert "annotations" not in site.config_map["metadata"]


def test_reverted_in_mid_rollout_the_old_pods_are_the_new_ones_again(site: Site) -> None:
    site.reconcile(SP8)
    assert site.child is not None
    first = template_of(site.child)
    site.reconcile(SP4)
    site.reconcile(SP4)
    site.reconcile(SP8)
    assert template_of(site.child) == first
    assert large(site.read_by(first)) == (8, 1)


def test_pods_of_an_older_operator_in_mid_rollout_are_left_as_they_are(site: Site) -> None:
    """It had one file for all, also for pods of another degree than the first."""
    child = dict(workload(started_with(site.deployment, SP4), 4).body)
    site.child = child | {"status": {"observedGeneration": 1, "replicas": 4, "updatedReplicas": 1}}
    site.reconcile(SP4)
    assert template_of(site.child) == template_of(child)
    assert list(site.files()) == ["schedule.json"]


def test_an_argument_that_someone_changed_is_no_file_of_ours(site: Site) -> None:
    site.reconcile(SP8)
    assert site.child is not None
    args = template_of(site.child)["spec"]["containers"][0]["args"]
    args[args.index("/etc/shift/schedule.json")] = "/tmp/mine.json"
    assert file_for(SP8, site.child, site.config_map) == "schedule.json"


@given(st.lists(st.sampled_from([SP8, SP4, SP2, None]), max_size=12))
def test_whatever_the_edits_each_pod_reads_a_file_with_its_degree(steps: list[Degree | None]) -> None:
    """None: the rollout completes."""
    body = {
        "metadata": {"name": "chat"},
        "spec": {
            "model": {"uri": "file:///m"},
            "engine": {"image": "e:1"},
            "parallelism": {"gpusPerReplica": 8, "degree": SP8.to_body()},
        },
    }
    site = Site(ShiftDeployment.from_body(body))
    site.reconcile(SP8)
    wanted = SP8
    for step in steps:
        if step is None:
            site.complete()
        wanted = step or wanted
        site.reconcile(wanted)
        assert site.child is not None
        for template in (*site.old, template_of(site.child)):
            degree = degree_of(template)
            assert degree is not None
            assert large(site.read_by(template)) == (degree.sequence, degree.tensor)
        site.reconcile(wanted)
        assert len({file["generation"] for file in site.files().values()}) == 1
