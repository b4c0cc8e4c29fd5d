"""The cache's feeds overtake each other: watches, answers of our writes, lists."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shift_operator.cluster.cache import Cache
from shift_operator.cluster.resources import DEPLOYMENTS, PODS, SHIFT_DEPLOYMENTS, Resource

OWNER = "shiftparallel.io/deployment"


def a_cache() -> Cache:
    return Cache(owner_label=OWNER, selector="managed-by=us")


def an_object(name: str, version: int, owner: str = "chat", **body: Any) -> dict[str, Any]:
    metadata = {"namespace": "prod", "name": name, "resourceVersion": str(version), "labels": {OWNER: owner}}
    return {"metadata": metadata} | body


def test_an_older_version_does_not_replace_a_newer_one() -> None:
    cache = a_cache()
    cache.put(DEPLOYMENTS, an_object("chat", 9, spec="new"))
    cache.put(DEPLOYMENTS, an_object("chat", 8, spec="old"))
    known = cache.get(DEPLOYMENTS, "prod", "chat")
    assert known is not None
    assert known["spec"] == "new"


@pytest.mark.parametrize("resource", [DEPLOYMENTS, SHIFT_DEPLOYMENTS], ids=str)
def test_what_is_read_is_what_was_put(resource: Resource) -> None:
    cache = a_cache()
    body = an_object("chat", 9, spec={"replicas": 2, "note": "\u00e4 \U0001f600", "list": [1, None, {"a": 0.5}]})
    cache.put(resource, body)
    assert cache.get(resource, "prod", "chat") == body
    assert cache.all(resource) == [body]


def test_a_late_deletion_does_not_remove_the_object_that_came_after_it() -> None:
    cache = a_cache()
    cache.put(DEPLOYMENTS, an_object("chat", 12))
    cache.drop(DEPLOYMENTS, an_object("chat", 11))
    assert cache.get(DEPLOYMENTS, "prod", "chat") is not None
    cache.drop(DEPLOYMENTS, an_object("chat", 13))
    assert cache.get(DEPLOYMENTS, "prod", "chat") is None


def test_a_list_finds_what_vanished_and_names_its_owner() -> None:
    cache = a_cache()
    for name, version in (("chat", 3), ("gone", 4), ("newer-than-the-list", 30)):
        cache.put(DEPLOYMENTS, an_object(name, version, owner=name))
    vanished = cache.replace(DEPLOYMENTS, None, [an_object("chat", 5, owner="chat")], version=20)
    assert vanished == [("prod", "gone")]
    assert cache.names(DEPLOYMENTS) == [("prod", "chat"), ("prod", "newer-than-the-list")]


def test_a_list_of_one_namespace_leaves_the_others_alone() -> None:
    cache = a_cache()
    cache.put(DEPLOYMENTS, an_object("chat", 3))
    assert cache.replace(DEPLOYMENTS, "staging", [], version=20) == []
    assert cache.names(DEPLOYMENTS) == [("prod", "chat")]


def test_pods_are_found_by_their_deployment_also_after_a_change_of_label() -> None:
    cache = a_cache()
    cache.put(PODS, an_object("chat-b", 1))
    cache.put(PODS, an_object("chat-a", 2))
    assert [pod["metadata"]["name"] for pod in cache.pods("prod", "chat")] == ["chat-a", "chat-b"]
    cache.put(PODS, an_object("chat-a", 3, owner="other"))
    assert [pod["metadata"]["name"] for pod in cache.pods("prod", "chat")] == ["chat-b"]
    assert [pod["metadata"]["name"] for pod in cache.pods("prod", "other")] == ["chat-a"]


def test_a_change_concerns_the_deployment_itself_or_the_one_its_label_names() -> None:
    cache = a_cache()
    assert cache.owner_of(SHIFT_DEPLOYMENTS, an_object("chat", 1, owner="x")) == ("prod", "chat")
    assert cache.owner_of(PODS, an_object("chat-abc", 1)) == ("prod", "chat")
    assert cache.owner_of(PODS, {"metadata": {"namespace": "prod", "name": "stray"}}) is None


def test_of_pods_little_is_kept_and_of_children_everything() -> None:
    cache = a_cache()
    pod = an_object("chat-a", 1, spec={"nodeName": "node-0", "containers": [{"name": "engine"}]})
    child = an_object("chat", 1, spec={"replicas": 1})
    for body in (pod, child):
        body["metadata"]["managedFields"] = [{"manager": "someone", "operation": "Update", "fieldsV1": {"f:spec": {}}}]
    cache.put(PODS, pod)
    cache.put(DEPLOYMENTS, child)
    (kept,) = cache.pods("prod", "chat")
    assert kept["spec"] == {"nodeName": "node-0"}
    assert "managedFields" not in kept["metadata"]
    assert "managedFields" in pod["metadata"], "the caller's object is left as it was"
    assert cache.get(DEPLOYMENTS, "prod", "chat") == child


@given(st.permutations(list(range(1, 7))))
def test_the_order_of_arrival_does_not_matter(versions: list[int]) -> None:
    cache = a_cache()
    for version in versions:
        cache.put(PODS, an_object("chat-a", version))
    assert [pod["metadata"]["resourceVersion"] for pod in cache.pods("prod", "chat")] == ["6"]


def test_a_deployment_that_has_become_anothers_is_not_kept_though_it_is_newer() -> None:
    """The answer to a write of ours may be the first to bring the label; the watch's deletion is then older than it."""
    cache = Cache(OWNER, "managed-by=us", "!operator", lambda body: "operator" not in body["metadata"]["labels"])
    assert cache.put(SHIFT_DEPLOYMENTS, an_object("chat", 3))
    moved = an_object("chat", 5)
    moved["metadata"]["labels"]["operator"] = "another"
    assert cache.put(SHIFT_DEPLOYMENTS, moved), "its reconcile forgets what is kept about it"
    assert cache.names() == []
    assert not cache.put(SHIFT_DEPLOYMENTS, moved)
