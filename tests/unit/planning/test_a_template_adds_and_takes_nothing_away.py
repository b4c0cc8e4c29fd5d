"""A user's template is merged as `kubectl` merges: by name where lists have one, and what is the operator's stays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from shift_operator.api.shiftdeployment import ShiftDeployment
from shift_operator.planning.overrides import MERGE_KEYS, merged
from shift_operator.planning.pod import pod_template

Build = Callable[..., ShiftDeployment]


def test_an_item_of_the_same_name_is_merged_and_a_new_one_comes_after() -> None:
    base = {"spec": {"containers": [{"name": "engine", "image": "e:1", "env": [{"name": "A", "value": "1"}]}]}}
    patch = {
        "spec": {
            "containers": [
                {"name": "engine", "env": [{"name": "B", "value": "2"}, {"name": "A", "value": "3"}]},
                {"name": "logs", "image": "l:1"},
            ]
        }
    }
    assert merged(base, patch) == {
        "spec": {
            "containers": [
                {"name": "engine", "image": "e:1", "env": [{"name": "A", "value": "3"}, {"name": "B", "value": "2"}]},
                {"name": "logs", "image": "l:1"},
            ]
        }
    }


def test_a_list_without_a_merge_key_is_the_patchs() -> None:
    assert merged({"args": ["a", "b"]}, {"args": ["c"]}) == {"args": ["c"]}
    assert merged({"tolerations": [{"key": "a"}]}, {"tolerations": []}) == {"tolerations": []}


names = st.sampled_from(["engine", "logs", "a", "b"])
leaves = st.integers() | st.text(max_size=3)
items = st.fixed_dictionaries({"name": names}, optional={"image": leaves, "args": st.lists(leaves, max_size=2)})
parts = st.fixed_dictionaries(
    {},
    optional={
        "containers": st.lists(items, max_size=4, unique_by=lambda item: item["name"]),
        "labels": st.dictionaries(names, leaves, max_size=3),
        "schedulerName": leaves,
    },
)


@given(parts, parts)
def test_everything_of_the_patch_is_there_and_whatever_it_does_not_name_stays(
    base: dict[str, Any], patch: dict[str, Any]
) -> None:
    result = merged(base, patch)
    assert merged(result, patch) == result
    assert merged(base, {}) == base
    assert result["labels"].items() >= patch["labels"].items() if "labels" in patch else True
    known = {item["name"]: item for item in result.get("containers", [])}
    assert len(known) == len(result.get("containers", []))
    for item in patch.get("containers", []):
        assert known[item["name"]].items() >= item.items()
    for item in base.get("containers", []):
        assert known[item["name"]].keys() >= item.keys()


def test_the_lists_have_a_key_only_where_core_v1_has_one() -> None:
    assert MERGE_KEYS["volumeMounts"] == "mountPath"
    assert MERGE_KEYS["ports"] == "containerPort"
    assert not {"tolerations", "args", "command"} & MERGE_KEYS.keys()


def test_a_sidecar_comes_after_the_engine_and_gets_no_privileges(a_deployment: Build) -> None:
    plain = pod_template(a_deployment())
    sidecar = {"name": "logs", "image": "l:1", "securityContext": {"runAsUser": 7}}
    spec = pod_template(a_deployment(template={"spec": {"containers": [sidecar]}}))["spec"]
    engine, logs = spec["containers"]
    assert engine == plain["spec"]["containers"][0]
    assert logs == {
        "name": "logs",
        "image": "l:1",
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "runAsUser": 7},
    }
    assert {key: value for key, value in spec.items() if key != "containers"} == {
        key: value for key, value in plain["spec"].items() if key != "containers"
    }


def test_the_engine_gets_a_further_mount_and_keeps_its_own(a_deployment: Build) -> None:
    addition = {
        "containers": [{"name": "engine", "volumeMounts": [{"name": "files", "mountPath": "/files"}]}],
        "volumes": [{"name": "files", "configMap": {"name": "chat-templates"}}],
    }
    plain, more = pod_template(a_deployment()), pod_template(a_deployment(template={"spec": addition}))
    before, after = plain["spec"]["containers"][0], more["spec"]["containers"][0]
    assert after["volumeMounts"] == [*before["volumeMounts"], {"name": "files", "mountPath": "/files"}]
    assert after["image"] == before["image"]
    assert more["spec"]["volumes"] == [
        *plain["spec"]["volumes"],
        {"name": "files", "configMap": {"name": "chat-templates"}},
    ]


def test_labels_and_annotations_are_added_to_the_pods(a_deployment: Build) -> None:
    metadata = {"labels": {"team": "search"}, "annotations": {"a": "b"}}
    more = pod_template(a_deployment(template={"metadata": metadata}))["metadata"]
    assert more["labels"] == pod_template(a_deployment())["metadata"]["labels"] | {"team": "search"}
    assert more["annotations"] == {"a": "b"}


def test_security_of_the_pod_keeps_what_the_operator_sets(a_deployment: Build) -> None:
    template = {"spec": {"securityContext": {"supplementalGroups": [7]}}}
    security = pod_template(a_deployment(template=template))["spec"]["securityContext"]
    assert security["supplementalGroups"] == [7]
    assert security["runAsNonRoot"] is True
