"""Image env, envFrom, env and their references, in Kubernetes' order; the OCI command rules; quantities."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from localcluster.kubelet import quantity
from localcluster.kubelet.environment import ConfigError, Sources, compose, resolve
from localcluster.kubelet.fields import Place, resource_value
from localcluster.kubelet.images import Image
from localcluster.kubelet.paths import PathMap
from localcluster.kubelet.sources import Source

PLACE = Place("node-0", "127.10.0.5", "127.0.0.1", {"cpu": "64", "memory": "512Gi"})
POD: dict[str, Any] = {
    "metadata": {"name": "chat-0", "namespace": "prod", "uid": "u1", "labels": {"app": "chat"}, "annotations": {}},
    "spec": {"containers": [{"name": "engine"}], "serviceAccountName": "chat"},
}
FOUND: Sources = {
    ("configmap", "settings"): Source("configmap", "prod", "settings", {"a": b"1", "b": b"2"}),
    ("secret", "token"): Source("secret", "prod", "token", {"hf": b"s3cret"}),
}


def env_of(*env: dict[str, Any], **container: Any) -> dict[str, str]:
    return resolve(POD, {"name": "engine", "env": list(env), **container}, PLACE, FOUND, {})


def field(name: str, path: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def test_the_downward_api() -> None:
    env = env_of(
        field("IP", "status.podIP"),
        field("NAME", "metadata.name"),
        field("APP", "metadata.labels['app']"),
        field("NONE", "metadata.annotations['none']"),
        field("SA", "spec.serviceAccountName"),
        {"name": "URL", "value": "http://$(IP):8000"},
    )
    assert env == {
        "IP": "127.10.0.5",
        "NAME": "chat-0",
        "APP": "chat",
        "NONE": "",
        "SA": "chat",
        "URL": "http://127.10.0.5:8000",
    }


def test_env_from_takes_all_keys_and_env_wins() -> None:
    env = env_of({"name": "X_a", "value": "own"}, envFrom=[{"prefix": "X_", "configMapRef": {"name": "settings"}}])
    assert env == {"X_a": "own", "X_b": "2"}


def test_a_missing_key_is_an_error_unless_optional() -> None:
    reference = {"name": "settings", "key": "z"}
    assert env_of({"name": "Z", "valueFrom": {"configMapKeyRef": {**reference, "optional": True}}}) == {}
    with pytest.raises(ConfigError, match="couldn't find key z in ConfigMap prod/settings"):
        env_of({"name": "Z", "valueFrom": {"configMapKeyRef": reference}})


def test_secrets_are_decoded() -> None:
    assert env_of({"name": "T", "valueFrom": {"secretKeyRef": {"name": "token", "key": "hf"}}}) == {"T": "s3cret"}


def test_the_command_with_real_paths() -> None:
    container = {
        "name": "engine",
        "args": ["serve", "$(MODEL)", "--host", "$(IP)", "--file=/etc/shift/s.json"],
        "env": [field("IP", "status.podIP"), {"name": "MODEL", "value": "/models/tiny"}],
    }
    paths = PathMap({"/etc/shift": "/pod/v", "/models": "/cache"})
    image = Image(entrypoint=["/bin/engine"], cmd=["--help"], env={"PATH": "/opt", "LANG": "C"})
    command = compose(POD, container, image, PLACE, {}, {"HOME": "/pod/home"}, paths)
    assert command.argv == ["/bin/engine", "serve", "/cache/tiny", "--host", "127.10.0.5", "--file=/pod/v/s.json"]
    expected = {"PATH": "/opt", "LANG": "C", "HOME": "/pod/home", "IP": "127.10.0.5", "MODEL": "/cache/tiny"}
    assert command.env == expected


@pytest.mark.parametrize(
    ("command", "args", "argv"),
    [
        (None, None, ["entry", "cmd"]),
        (["c"], None, ["c"]),
        (None, ["a"], ["entry", "a"]),
        (["c"], ["a"], ["c", "a"]),
    ],
)
def test_command_and_args_replace_entrypoint_and_cmd(
    command: list[str] | None, args: list[str] | None, argv: list[str]
) -> None:
    assert Image(entrypoint=["entry"], cmd=["cmd"]).argv(command, args) == argv


def test_no_command_at_all_is_an_error() -> None:
    with pytest.raises(ConfigError, match="no command specified"):
        compose(POD, {"name": "engine"}, Image(), PLACE, {}, {}, PathMap({}))


def test_resource_fields_round_up_in_units_of_the_divisor() -> None:
    container = {"name": "engine", "resources": {"limits": {"cpu": "1500m"}, "requests": {"memory": "1Gi"}}}
    assert resource_value({"resource": "limits.cpu"}, container, PLACE) == "2"
    assert resource_value({"resource": "limits.cpu", "divisor": "1m"}, container, PLACE) == "1500"
    assert resource_value({"resource": "requests.memory", "divisor": "1Mi"}, container, PLACE) == "1024"
    assert resource_value({"resource": "limits.memory", "divisor": "1Gi"}, container, PLACE) == "512"


@pytest.mark.parametrize(("text", "value"), [("100m", Fraction(1, 10)), ("2Gi", 2**31), ("1e3", 1000), ("8", 8)])
def test_quantities(text: str, value: Fraction | int) -> None:
    assert quantity.parse(text) == value


def test_a_bad_quantity_is_named() -> None:
    with pytest.raises(ValueError, match="quantity '8GB'"):
        quantity.parse("8GB")
