"""The LeaderWorkerSet of a replica over several nodes: one pod serves, the others run ranks for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from shift_operator.api import labels
from shift_operator.api.shiftdeployment import ShiftDeployment
from shift_operator.planning.plan import plan
from shift_operator.planning.rollout import Replacing
from shift_operator.planning.schedule import next_schedule
from shift_operator.planning.span import Span
from shift_operator.planning.workload import workload

Build = Callable[..., ShiftDeployment]
SIXTEEN = {"gpusPerReplica": 16, "degree": {"sequence": 16, "tensor": 1}}


def templates(deployment: ShiftDeployment) -> tuple[dict[str, Any], dict[str, Any]]:
    group = workload(deployment, 1, nodes=2).body["spec"]["leaderWorkerTemplate"]
    return group["leaderTemplate"], group["workerTemplate"]


def after(args: list[str], flag: str) -> str:
    return args[args.index(flag) + 1]


def test_all_its_pods_share_the_gpus_and_the_arguments_but_their_place(a_deployment: Build) -> None:
    leader, worker = templates(a_deployment(parallelism=SIXTEEN, engine={"args": ["--max-model-len", "4096"]}))
    args = {name: pod["spec"]["containers"][0]["args"] for name, pod in {"leader": leader, "worker": worker}.items()}
    for each in args.values():
        assert after(each, "--tensor-parallel-size") == "16"
        assert after(each, "--nnodes") == "2"
        assert after(each, "--node-rank") == "$(LWS_WORKER_INDEX)"
        assert each[-2:] == ["--max-model-len", "4096"]
    assert after(args["leader"], "--master-addr") == "$(POD_IP)"
    assert after(args["worker"], "--master-addr") == "$(LWS_LEADER_ADDRESS)"
    assert [arg for arg in args["worker"] if arg not in args["leader"]] == ["$(LWS_LEADER_ADDRESS)", "--headless"]
    for pod in (leader, worker):
        container = pod["spec"]["containers"][0]
        assert container["resources"]["limits"] == {"nvidia.com/gpu": "8"}
        assert {e["name"] for e in container["env"]} >= {"POD_IP", "VLLM_HOST_IP"}
        assert pod["spec"]["terminationGracePeriodSeconds"] == 140


def test_only_the_leader_serves_and_no_selector_finds_a_worker(a_deployment: Build) -> None:
    leader, worker = templates(a_deployment(parallelism=SIXTEEN))
    serving = {"ports", "startupProbe", "readinessProbe", "livenessProbe"}
    assert serving <= leader["spec"]["containers"][0].keys()
    assert serving.isdisjoint(worker["spec"]["containers"][0])
    selector = labels.selector_labels("chat").items()
    assert selector <= leader["metadata"]["labels"].items()
    assert not selector <= worker["metadata"]["labels"].items()
    for pod in (leader, worker):
        assert labels.group_labels("chat").items() <= pod["metadata"]["labels"].items()


def test_both_templates_say_what_they_are_made_from_and_nothing_live_is_in_it(a_deployment: Build) -> None:
    def made_from(deployment: ShiftDeployment, replicas: int = 1) -> set[str]:
        group = workload(deployment, replicas, nodes=2).body["spec"]["leaderWorkerTemplate"]
        return {
            group[name]["metadata"]["annotations"][labels.TEMPLATE] for name in ("leaderTemplate", "workerTemplate")
        }

    first = made_from(a_deployment(parallelism=SIXTEEN))
    assert len(first) == 1
    assert made_from(a_deployment(parallelism=SIXTEEN, shift={"thresholdTokens": 300}), 5) == first
    assert made_from(a_deployment(parallelism=SIXTEEN, engine={"image": "example.com/shift-engine:2"})) != first


def test_the_rollouts_bounds_are_the_groups(a_deployment: Build) -> None:
    body = workload(a_deployment(parallelism=SIXTEEN), 3, Replacing(2, 1), nodes=2).body
    bounds = {"maxSurge": 2, "maxUnavailable": 1, "partition": 0}
    assert body["spec"]["rolloutStrategy"] == {"type": "RollingUpdate", "rollingUpdateConfiguration": bounds}
    assert Replacing.of(body) == Replacing(2, 1)
    without = workload(a_deployment(parallelism=SIXTEEN), 3, Replacing(1, 0), nodes=2).body
    assert without["spec"]["rolloutStrategy"]["rollingUpdateConfiguration"]["maxUnavailable"] == "1%"
    assert Replacing.of(without) == Replacing(1, 0)
    assert body["spec"]["leaderWorkerTemplate"]["restartPolicy"] == "RecreateGroupOnPodRestart"


def test_the_budget_counts_pods_and_the_ranks_reach_each_other(a_deployment: Build) -> None:
    def specs(**spec: Any) -> dict[str, Any]:
        deployment = a_deployment(parallelism=SIXTEEN, networkPolicy={"enabled": True}, **spec)
        manifests = plan(deployment, next_schedule(deployment.spec, None), 3, span=Span(2))
        return {manifest.kind: manifest.body.get("spec") for manifest in manifests}

    everyone = {"matchLabels": labels.group_labels("chat")}
    found = specs()
    assert found["PodDisruptionBudget"]["maxUnavailable"] == 1
    assert found["PodDisruptionBudget"]["selector"] == everyone
    assert found["NetworkPolicy"]["podSelector"] == everyone
    assert found["NetworkPolicy"]["ingress"][1] == {"from": [{"podSelector": everyone}]}
    assert found["Service"]["selector"] == labels.selector_labels("chat")
    # 2 of 3 replicas are 4 pods; with the first pod of a replica its other one goes, with the second nothing more.
    assert specs(disruption={"minAvailable": 2})["PodDisruptionBudget"]["minAvailable"] == 5
    assert specs(disruption={"minAvailable": 0})["PodDisruptionBudget"]["minAvailable"] == 0


def test_nothing_is_planned_where_the_workload_cannot_be_seen(a_deployment: Build) -> None:
    deployment = a_deployment()
    kinds = {m.kind for m in plan(deployment, next_schedule(deployment.spec, None), 1, span=Span(known=False))}
    assert "Deployment" not in kinds
    assert "Service" in kinds
