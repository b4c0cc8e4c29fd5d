"""The CRD as generated: only what a structural schema may hold, bounds on what users write, words on every field."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from shift_operator.api.crd import KINDS

Node = tuple[str, dict[str, Any]]

SCHEMAS = {kind.short_name: kind.definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"] for kind in KINDS}
ALLOWED = {
    "additionalProperties", "default", "description", "enum", "format", "items", "maxItems", "maxLength",
    "maxProperties", "maximum", "minItems", "minLength", "minimum", "pattern", "properties", "required", "type",
}  # fmt: skip


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[Node]:
    yield path, schema
    for name, field in schema.get("properties", {}).items():
        yield from nodes(field, f"{path}.{name}")
    for inner in ("items", "additionalProperties"):
        if inner in schema:
            yield from nodes(schema[inner], f"{path}[]")


ALL = [node for name, schema in SCHEMAS.items() for node in nodes(schema, name)]
SPEC = [(path, node) for path, node in ALL if ".spec" in path]
FIELDS = [(p, n) for p, n in ALL if (".spec" in p or ".status" in p) and not p.endswith("[]")]


def test_only_what_a_structural_schema_knows() -> None:
    for path, node in ALL:
        assert {key for key in node if not key.startswith("x-kubernetes-")} <= ALLOWED, path
        assert node["type"] in {"object", "array", "string", "integer", "boolean"}, path


def test_whatever_a_user_writes_is_bounded() -> None:
    for path, node in SPEC:
        if node["type"] == "array":
            assert node["maxItems"] <= 64, path
            assert "x-kubernetes-list-type" in node, path
        if node["type"] == "object" and "additionalProperties" in node:
            assert node["maxProperties"] <= 64, path
        if node["type"] == "string" and "enum" not in node:
            assert node["maxLength"] <= 4096, path
        if node["type"] == "integer" and "maximum" in node:
            assert "minimum" in node, path


def test_every_field_is_documented() -> None:
    for path, node in FIELDS:
        assert node.get("description", "").endswith("."), path
        assert "{" not in node["description"], path


@pytest.mark.parametrize(("path", "node"), [f for f in FIELDS if f[1]["type"] != "object" and "default" in f[1]])
def test_a_field_with_a_default_names_it_and_says_when_it_takes_effect(path: str, node: dict[str, Any]) -> None:
    default = node["default"]
    shown = {True: "true", False: "false"}.get(default, default) if isinstance(default, bool) else default
    assert f"Default: {shown}" in node["description"], path
    assert "Takes effect" in node["description"], path


def test_a_number_names_its_unit() -> None:
    for path, node in SPEC:
        if node["type"] == "integer" and path.count(".") <= 4 and ".scheduling." not in path:
            assert "Unit: " in node["description"], path


def test_every_rule_has_a_sentence() -> None:
    rules = [rule for _, node in ALL for rule in node.get("x-kubernetes-validations", [])]
    assert len(rules) > 30
    assert all(("message" in rule) != ("messageExpression" in rule) for rule in rules)


def test_an_objects_default_has_all_of_its_fields_defaults() -> None:
    for path, node in SPEC:
        if node["type"] == "object" and "default" in node:
            inner = {name: field["default"] for name, field in node["properties"].items() if "default" in field}
            assert node["default"] == inner, path


def test_the_status_can_grow_without_a_new_crd_on_the_way_back() -> None:
    """An operator that was rolled back must be able to read what its successor wrote: words are no enums in status."""
    enums = [path for path, node in ALL if ".status" in path and "enum" in node]
    assert enums == ["sd.status.conditions[].status", "csp.status.conditions[].status"]
