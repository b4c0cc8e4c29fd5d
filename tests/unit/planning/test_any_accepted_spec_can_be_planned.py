"""No accepted spec makes planning raise; equal specs give equal plans; whatever shifts restarts nothing."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from shift_operator.api.schedule import Schedule
from shift_operator.api.shiftdeployment import ShiftDeployment
from shift_operator.planning.plan import plan
from shift_operator.planning.schedule import next_schedule

words = st.text("abcxyz0189-", min_size=1, max_size=12)
names = st.from_regex(r"[a-z]([-a-z0-9]{0,20}[a-z0-9])?", fullmatch=True)
values = st.text("aZ09 $()/{}'\"=-é", max_size=20)


def some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """An object with any of these fields."""
    return st.fixed_dictionaries({}, optional=fields)


@st.composite
def models(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from(["hf", "pvc", "file"]))
    if kind == "hf":
        optional = some(
            name=names,
            revision=words,
            tokenSecretRef=st.fixed_dictionaries({"name": names, "key": words}),
            cache=st.fixed_dictionaries({"claimName": names}, optional={"subPath": names}),
        )
        return {"uri": f"hf://{draw(names)}/{draw(names)}", **draw(optional)}
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
rest = some(
    replicas=st.integers(0, 1000),
    suspend=st.booleans(),
    scaling=st.just({"mode": "Fixed"}),
    rollout=st.just({"maxSurge": 0, "maxUnavailable": 2}),
    drain=st.fixed_dictionaries({"timeoutSeconds": st.integers(1, 3600)}),
    scheduling=some(
        resourceName=st.just("amd.com/gpu"),
        nodeSelector=st.dictionaries(words, words, max_size=3),
        tolerations=st.lists(
            st.fixed_dictionaries({"operator": st.just("Exists")}, optional={"key": words}), max_size=3
        ),
        priorityClassName=names,
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
    },
)


@st.composite
def specs(draw: st.DrawFn) -> dict[str, Any]:
    return {"model": draw(models()), "engine": draw(engines), **draw(parallel()), **draw(rest)}


def deployment(spec: dict[str, Any]) -> ShiftDeployment:
    return ShiftDeployment.from_body({"metadata": {"name": "chat", "namespace": "prod", "uid": "5f1c"}, "spec": spec})


thresholds = st.none() | st.integers(1, 131072)


@given(specs(), thresholds)
def test_every_accepted_spec_has_a_plan_of_plain_json(spec: dict[str, Any], threshold: int | None) -> None:
    one = deployment(spec)
    manifests = plan(one, next_schedule(one.spec, None, threshold))
    assert [m.kind for m in manifests] == ["ServiceAccount", "ConfigMap", "Service", "Deployment"]
    for manifest in manifests:
        assert json.loads(json.dumps(manifest.body)) == manifest.body


@given(specs())
def test_equal_specs_have_equal_plans(spec: dict[str, Any]) -> None:
    first, second = deployment(spec), deployment(json.loads(json.dumps(spec)))
    assert plan(first, next_schedule(first.spec, None)) == plan(second, next_schedule(second.spec, None))


@given(specs(), parallel(), thresholds)
def test_whatever_changes_in_shift_leaves_the_workload_alone(
    spec: dict[str, Any], other: dict[str, Any], threshold: int | None
) -> None:
    before, after = deployment(spec), deployment(spec | {"shift": other["shift"]})
    old = plan(before, next_schedule(before.spec, None))
    new = plan(after, next_schedule(after.spec, None, threshold))
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
