"""From `kubectl apply` to a serving replica, and back again."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.operator.conftest import IMAGE

ADeployment = Callable[..., dict[str, Any]]
CHILDREN = [
    ("deployment", "chat"),
    ("service", "chat"),
    ("configmap", "chat-schedule"),
    ("serviceaccount", "chat"),
    ("poddisruptionbudget", "chat"),
]


def test_an_applied_deployment_becomes_available(place: Any, a_deployment: ADeployment) -> None:
    place.apply(a_deployment())
    place.eventually(place.has("Available", "True"))
    place.eventually(place.has("ConfigurationApplied", "True"))
    for kind, name in CHILDREN:
        assert place.get(kind, name)["metadata"]["ownerReferences"][0]["name"] == "chat"
    status = place.get("sd", "chat")["status"]
    assert status["observedGeneration"] == 1
    assert status["ready"] == "1/1"
    assert status["shift"]["desired"] == {"generation": 1, "thresholdTokens": 256}
    assert status["shift"]["applied"] == {"generation": 1, "thresholdTokens": 256, "pods": 1, "ranks": 2}
    assert place.condition("Degraded")["status"] == "False"
    assert place.notes("ConfigurationApplied") == ["1 of 1 pods run generation 1"]


@pytest.mark.parametrize(("kind", "name"), CHILDREN)
def test_a_deleted_child_comes_back(place: Any, a_deployment: ADeployment, kind: str, name: str) -> None:
    place.apply(a_deployment(replicas=0))
    place.eventually(place.has("Progressing", "True", "RolloutComplete"))
    before = place.get(kind, name)["metadata"]["uid"]
    place.kubectl("delete", kind, name)
    place.eventually(lambda: (found := place.find(kind, name)) and found["metadata"]["uid"] != before)
    place.eventually(lambda: any("had been deleted; created it again" in note for note in place.notes("ChildRepaired")))


def test_an_edited_child_is_repaired_and_the_event_names_who_changed_it(place: Any, a_deployment: ADeployment) -> None:
    place.apply(a_deployment(replicas=0))
    place.eventually(place.has("Progressing", "True", "RolloutComplete"))
    patch = '{"spec": {"ports": [{"port": 8000, "targetPort": 9999}]}}'
    place.kubectl("patch", "service", "chat", "--patch", patch, "--field-manager", "a-colleague")
    place.eventually(lambda: place.get("service", "chat")["spec"]["ports"][0]["targetPort"] == "http")
    place.eventually(lambda: any("changed by a-colleague in spec.ports" in n for n in place.notes("ChildRepaired")))


def test_a_value_beside_our_own_source_of_a_variable_is_taken_away(place: Any, a_deployment: ADeployment) -> None:
    """The API server refuses both together, and an apply of ours removes nobody else's field."""
    place.apply(a_deployment(replicas=0))
    place.eventually(place.has("Progressing", "True", "RolloutComplete"))
    place.kubectl("set", "env", "deployment/chat", "POD_NAME=x")

    def pod_name() -> Any:
        (engine,) = place.get("deployment", "chat")["spec"]["template"]["spec"]["containers"]
        return next(variable for variable in engine["env"] if variable["name"] == "POD_NAME")

    source = {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}
    place.eventually(lambda: pod_name() == {"name": "POD_NAME", "valueFrom": source})
    place.eventually(lambda: any("containers[engine].env[POD_NAME]" in note for note in place.notes("ChildRepaired")))
    assert place.condition("Degraded")["status"] == "False"


def test_a_source_beside_our_own_value_of_a_variable_is_taken_away(place: Any, a_deployment: ADeployment) -> None:
    """The same the other way round. What was repaired is ours once: a variable that the spec drops is gone."""
    env = [{"name": "NCCL_DEBUG", "value": "INFO"}]
    place.apply(a_deployment(replicas=0, engine={"image": IMAGE, "env": env}))
    place.eventually(place.has("Progressing", "True", "RolloutComplete"))
    place.kubectl("create", "configmap", "theirs", "--from-literal=NCCL_DEBUG=x")
    place.kubectl("set", "env", "deployment/chat", "--from=configmap/theirs")

    def variable(name: str) -> Any:
        (engine,) = place.get("deployment", "chat")["spec"]["template"]["spec"]["containers"]
        return next((variable for variable in engine["env"] if variable["name"] == name), None)

    place.eventually(lambda: variable("NCCL_DEBUG") == {"name": "NCCL_DEBUG", "value": "INFO"})
    place.eventually(lambda: any("containers[engine].env[NCCL_DEBUG]" in note for note in place.notes("ChildRepaired")))
    assert place.condition("Degraded")["status"] == "False"
    place.apply(a_deployment(replicas=0))
    place.eventually(lambda: variable("NCCL_DEBUG") is None)


def test_what_others_add_to_a_child_stays(place: Any, a_deployment: ADeployment, audit: Any) -> None:
    place.apply(a_deployment(replicas=0))
    place.eventually(place.has("Progressing", "True", "RolloutComplete"))
    place.kubectl("annotate", "service", "chat", "example.com/owner=team-a")
    place.apply(a_deployment(replicas=0, shift={"mode": "Fixed", "thresholdTokens": 300}))
    place.eventually(lambda: place.get("sd", "chat")["status"]["shift"]["desired"]["generation"] == 2)
    assert place.get("service", "chat")["metadata"]["annotations"] == {"example.com/owner": "team-a"}


def test_a_foreign_object_with_a_childs_name_is_left_alone(place: Any, a_deployment: ADeployment) -> None:
    place.kubectl("create", "configmap", "chat-schedule", "--from-literal=mine=yes")
    place.apply(a_deployment(replicas=0))
    place.eventually(place.has("Degraded", "True", "NameTaken"))
    message = "ConfigMap chat-schedule exists and was not made by this operator; it is left alone: delete it, or give"
    assert place.condition("Degraded")["message"].startswith(message)
    assert place.notes("NameTaken")[0].startswith(message)
    found = place.get("configmap", "chat-schedule")
    assert found["data"] == {"mine": "yes"}
    assert "ownerReferences" not in found["metadata"]


def test_a_deleted_deployment_takes_its_children_along(place: Any, a_deployment: ADeployment) -> None:
    place.apply(a_deployment())
    place.eventually(place.has("Available", "True"))
    place.kubectl("delete", "sd", "chat", "--wait=false")
    place.eventually(lambda: not any(place.find(kind, name) for kind, name in CHILDREN))
    place.eventually(lambda: not place.pods())
