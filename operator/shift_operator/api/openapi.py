"""From the API's types to the structural OpenAPI v3 schema that a CustomResourceDefinition has.

A structural schema has no references, no `null` beside a type and no titles. Kubernetes fills in defaults from the
outside in and holds an object's rules against its default as it stands, so that default has all its fields' defaults.
"""

import inspect
import json
from typing import Any, Final

from shift_operator.api.base import ApiType

Schema = dict[str, Any]

# A placeholder in a field's documentation for the value that the type has as its default.
DEFAULT: Final = "{default}"

# Handled one by one, or not known to structural schemas.
_ELSEWHERE = {"title", "$defs", "properties", "items", "additionalProperties", "propertyNames"}

_FIRST = ("description", "type", "format", "default", "enum", "minimum", "maximum")


def structural_schema(type_: type[ApiType]) -> Schema:
    """The schema of a type, with everything it refers to in place."""
    raw = type_.model_json_schema(by_alias=True, mode="validation")
    return _structural(raw, raw.get("$defs", {}))


def _structural(raw: Schema, definitions: dict[str, Schema]) -> Schema:
    node = _resolved(raw, definitions)
    schema = {key: value for key, value in node.items() if key not in _ELSEWHERE}
    if "description" in schema:
        schema["description"] = _sentence(schema["description"], schema.get("default"))
    if "properties" in node:
        schema["properties"] = {name: _structural(field, definitions) for name, field in node["properties"].items()}
    if "items" in node:
        schema["items"] = _structural(node["items"], definitions)
    if isinstance(node.get("additionalProperties"), dict):
        schema["additionalProperties"] = _structural(node["additionalProperties"], definitions)
    _place_default(schema)
    return {key: schema[key] for key in sorted(schema, key=_order)}


def _resolved(raw: Schema, definitions: dict[str, Schema]) -> Schema:
    """The node itself instead of a reference to it; what the field says (documentation, default, rules) wins."""
    node = dict(raw)
    if "$ref" in node:
        target = _resolved(definitions[node.pop("$ref").rpartition("/")[2]], definitions)
        rules = target.get("x-kubernetes-validations", []) + node.get("x-kubernetes-validations", [])
        node = target | node | ({"x-kubernetes-validations": rules} if rules else {})
    if "anyOf" in node:
        alternatives = [a for a in node.pop("anyOf") if a.get("type") != "null"]
        if len(alternatives) != 1:
            raise TypeError(f"a structural schema cannot have a choice of types: {alternatives}")
        node = _resolved(alternatives[0] | node, definitions)
    return node


def _place_default(schema: Schema) -> None:
    default = _said(schema.pop("default", None))
    if default not in (None, [], {}):
        schema["default"] = default


def _said(default: Any) -> Any:
    """The default without what is the same as absent: None, an empty list or map."""
    if not isinstance(default, dict):
        return default
    return {key: said for key, value in default.items() if (said := _said(value)) not in (None, [], {})}


def _sentence(text: str, default: Any) -> str:
    text = " ".join(inspect.cleandoc(text).split())
    shown = default if isinstance(default, str) else json.dumps(default)
    return text.replace(DEFAULT, shown)


def _order(key: str) -> tuple[int, str]:
    return (_FIRST.index(key) if key in _FIRST else len(_FIRST), key)
