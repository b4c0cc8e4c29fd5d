"""No accepted spec makes planning raise; equal specs give equal plans; whatever shifts restarts nothing."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from shift_operator.api.model import Addressing
from shift_operator.api.schedule import Schedule
from shift_operator.api.shiftdeployment import ShiftDeployment
from shift_operator.planning.plan import OPTIONAL, plan
from shift_operator.planning.schedule import next_schedule
from shift_operator.planning.span import Span

words = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,10}[a-z0-9])?", fullmatch=True)
names = st.from_regex(r"[a-z]([-a-z0-9]{0,20}[a-z0-9])?", fullmatch=True)
values = st.text("aZ09 $()/{}'\"=-é", max_size=20)


def some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """An object with any of these fields."""
    return st.fixed_dictionaries({}, optional=fields)


@st.composite
def models(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from(["hf", "pvc", "file", "s3"]))
    if kind == "hf":
        optional = some(
            name=names,
            revision=words,
            tokenSecretRef=st.fixed_dictionaries({"name": names, "key": words}),
            cache=st.fixed_dictionaries({"claimName": names}, optional={"subPath": names}),
        )
        return {"uri": f"hf://{draw(names)}/{draw(names)}", **draw(optional)}
    if kind == "s3":
        access = some(endpointURL=words, addressing=st.sampled_from(list(Addressing)), region=words)
        return {"uri": f"s3://{draw(names)}", "s3": draw(access) | draw(some(credentialsSecretName=names))}
    path = "/".join(draw(st.lists(names, min_size=kind == "file", max_size=3)))
    return {"uri": f"pvc://{draw(names)}" + (f"/{path}" if path else "") if kind == "pvc" else f"file:///{path}"}


@st.composite
def parallel(draw: st.DrawFn) -> dict[str, Any]:
    sequence, tensor = draw(st.integers(1, 8)), draw(st.integers(1, 8))
    modes = ["TensorOnly"] if sequence == 1 else ["Auto", "Fixed", "TensorOnly", "SequenceOnly"]
    low, threshold, high = sorted(draw(st.lists(st.integers(1, 131072), min_size=3, max_size=3)))
    return {
        "parallelism": {"gpusPerReplica": sequence * tensor, "degree": {"sequence": sequence, "tensor": tensor}},
        "shift": {
            "mode": draw(st.sampled_from(modes)),
            "thresholdTokens": threshold,
            "thresholdRange": {"min": low, "max": high},
        },
    }


selectors = some(
    matchLabels=st.dictionaries(words, words, max_size=2),
    matchExpressions=st.lists(st.fixed_dictionaries({"key": words, "operator": st.just("Exists")}), max_size=2),
)
terms = st.lists(
    st.fixed_dictionaries(
        {"topologyKey": words}, optional={"labelSelector": selectors, "namespaceSelector": selectors}
    ),
    max_size=2,
)
sources = st.one_of(
    st.fixed_dictionaries({"fieldRef": st.just({"fieldPath": "spec.nodeName"})}),
    st.fixed_dictionaries({"secretKeyRef": st.fixed_dictionaries({"name": names, "key": words})}),
    st.fixed_dictionaries({"configMapKeyRef": st.fixed_dictionaries({"name": names, "key": words})}),
)
KINDS = [
    "ServiceAccount", "ConfigMap", "Service", "PodDisruptionBudget", "NetworkPolicy", "Deployment", "PodMonitor",
    "InferencePool",
]  # fmt: skip
MANAGED = {
    "mode": "Managed", "minReplicas": 2, "maxReplicas": 4, "idle": {"afterSeconds": 60}, "policyRef": "p",
}  # fmt: skip
mounts = st.lists(
    st.fixed_dictionaries(
        {"name": names, "mountPath": st.sampled_from(["/a", "/b/c"])},
        optional={"subPath": names, "readOnly": st.booleans()},
    ),
    max_size=2,
    unique_by=lambda mount: mount["mountPath"],
)
resources = some(cpu=st.sampled_from(["8", "1500m", "2000m"]), memory=st.sampled_from(["64Gi", "2048Mi"]))
security = some(runAsUser=st.integers(1, 9), readOnlyRootFilesystem=st.booleans())
further = {
    "command": st.lists(values, max_size=2),
    "env": st.lists(
        st.one_of(
            st.fixed_dictionaries({"name": st.just("A")}, optional={"value": values}),
            st.fixed_dictionaries({"name": st.just("B"), "valueFrom": sources}),
        ),
        max_size=1,
    ),
    "ports": st.lists(st.fixed_dictionaries({"containerPort": st.integers(1, 65535)}), max_size=2),
    "resources": some(requests=resources, limits=resources),
    "volumeMounts": mounts,
    "securityContext": security,
}
further_containers = st.fixed_dictionaries({"name": names, "image": st.just("example.com/sidecar:1")}, optional=further)
volumes = st.one_of(
    st.fixed_dictionaries({"name": names, "configMap": st.fixed_dictionaries({"name": names})}),
    st.fixed_dictionaries({"name": names, "emptyDir": some(sizeLimit=st.just("2048Mi"), medium=st.just("Memory"))}),
)
templates = some(
    metadata=some(labels=st.dictionaries(words, words, max_size=2), annotations=st.dictionaries(words, values)),
    spec=some(
        containers=st.lists(
            st.one_of(
                further_containers,
                st.fixed_dictionaries(
                    {"name": st.just("engine")}, optional={"volumeMounts": mounts, "securityContext": security}
                ),
            ),
            max_size=3,
            unique_by=lambda container: container["name"],
        ),
        initContainers=st.lists(further_containers, max_size=1),
        volumes=st.lists(volumes, max_size=2, unique_by=lambda volume: volume["name"]),
        securityContext=some(fsGroup=st.integers(0, 9), supplementalGroups=st.lists(st.integers(0, 9), max_size=2)),
        runtimeClassName=names,
    ),
)
rest = some(
    template=templates,
    replicas=st.integers(0, 1000),
    suspend=st.booleans(),
    scaling=st.sampled_from([{"mode": "Fixed"}, {"mode": "External"}, MANAGED]),
    slo=some(ttft=st.just({"percentile": 99, "milliseconds": 800}), tpot=st.just({"milliseconds": 40})),
    disruption=some(minAvailable=st.integers(0, 1000)),
    networkPolicy=some(
        enabled=st.booleans(), allowFrom=st.lists(st.fixed_dictionaries({"podSelector": selectors}), max_size=2)
    ),
    gateway=some(endpointPicker=some(serviceName=names, port=st.integers(1, 65535), failureMode=st.just("FailClose"))),
    rollout=st.just({"maxSurge": 0, "maxUnavailable": 2}),
    drain=st.fixed_dictionaries({"timeoutSeconds": st.integers(1, 3600)}),
    scheduling=some(
        resourceName=st.just("amd.com/gpu"),
        nodeSelector=st.dictionaries(words, words, max_size=3),
        tolerations=st.lists(
            st.fixed_dictionaries({"operator": st.just("Exists")}, optional={"key": words}), max_size=3
        ),
        priorityClassName=names,
        queueName=names,
        affinity=some(
            nodeAffinity=some(
                requiredDuringSchedulingIgnoredDuringExecution=st.just({"nodeSelectorTerms": [{}]}),
                preferredDuringSchedulingIgnoredDuringExecution=st.just([{"weight": 1, "preference": {}}]),
            ),
            podAffinity=some(requiredDuringSchedulingIgnoredDuringExecution=terms),
            podAntiAffinity=some(requiredDuringSchedulingIgnoredDuringExecution=terms),
        ),
        topologySpreadConstraints=st.lists(
            st.fixed_dictionaries(
                {"maxSkew": st.integers(1, 9), "topologyKey": words, "whenUnsatisfiable": st.just("DoNotSchedule")},
                optional={"labelSelector": selectors},
            ),
            max_size=2,
        ),
    ),
)
engines = st.fixed_dictionaries(
    {"image": st.just("example.com/shift-engine:1")},
    optional={
        "args": st.lists(values.filter(bool), max_size=4),
        "env": st.lists(
            st.one_of(
                st.fixed_dictionaries({"name": words}, optional={"value": values}),
                st.fixed_dictionaries({"name": words, "valueFrom": sources}),
            ),
            max_size=3,
        ),
        "imagePullSecrets": st.lists(st.fixed_dictionaries({"name": names}), max_size=2),
        "resources": some(cpu=st.sampled_from(["8", "1500m", "2000m"]), memory=st.sampled_from(["64Gi", "2048Mi"])),
    },
)


@st.composite
def specs(draw: st.DrawFn) -> dict[str, Any]:
    return {"model": draw(models()), "engine": draw(engines), **draw(parallel()), **draw(rest)}


def deployment(spec: dict[str, Any]) -> ShiftDeployment:
    return ShiftDeployment.from_body({"metadata": {"name": "chat", "namespace": "prod", "uid": "5f1c"}, "spec": spec})


thresholds = st.none() | st.integers(1, 131072)


@given(specs(), thresholds, st.integers(0, 1000))
def test_every_accepted_spec_has_a_plan_of_plain_json(
    spec: dict[str, Any], threshold: int | None, replicas: int
) -> None:
    one = deployment(spec)
    manifests = plan(one, next_schedule(one.spec, None, threshold), replicas, OPTIONAL)
    without = () if one.spec.network_policy.enabled else ("NetworkPolicy",)
    assert [m.kind for m in manifests] == [kind for kind in KINDS if kind not in without]
    for manifest in manifests:
        assert json.loads(json.dumps(manifest.body)) == manifest.body


@given(specs(), st.integers(2, 8), st.integers(1, 8))
def test_every_accepted_spec_has_a_plan_over_several_nodes(spec: dict[str, Any], nodes: int, each: int) -> None:
    gpus = nodes * each
    spec |= {"parallelism": {"gpusPerReplica": gpus, "degree": {"sequence": gpus, "tensor": 1}}}
    one = deployment(spec)
    manifests = plan(one, next_schedule(one.spec, None), 1, OPTIONAL, span=Span(nodes))
    (workload,) = [m for m in manifests if m.kind in ("Deployment", "LeaderWorkerSet")]
    assert workload.kind == "LeaderWorkerSet"
    assert json.loads(json.dumps(workload.body)) == workload.body


@given(specs())
def test_equal_specs_have_equal_plans(spec: dict[str, Any]) -> None:
    first, second = deployment(spec), deployment(json.loads(json.dumps(spec)))
    assert plan(first, next_schedule(first.spec, None), 2) == plan(second, next_schedule(second.spec, None), 2)


@given(specs(), parallel(), thresholds)
def test_whatever_changes_in_shift_leaves_the_workload_alone(
    spec: dict[str, Any], other: dict[str, Any], threshold: int | None
) -> None:
    before, after = deployment(spec), deployment(spec | {"shift": other["shift"]})
    old = plan(before, next_schedule(before.spec, None), 2)
    new = plan(after, next_schedule(after.spec, None, threshold), 2)
    assert [m for m in old if m.kind != "ConfigMap"] == [m for m in new if m.kind != "ConfigMap"]


@given(specs(), thresholds)
def test_every_schedule_is_one_that_the_engine_can_run(spec: dict[str, Any], threshold: int | None) -> None:
    one = deployment(spec)
    schedule: Schedule = next_schedule(one.spec, None, threshold)
    gpus = one.spec.parallelism.gpus_per_replica
    for r in schedule.ranges:
        assert r.degree == one.spec.parallelism.degree or (r.sequence, r.tensor) == (1, gpus)
    if (bound := schedule.threshold_tokens) is not None:
        assert one.spec.shift.threshold_range.min <= bound <= one.spec.shift.threshold_range.max
