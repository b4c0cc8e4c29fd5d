"""The API's reference pages, generated from the types: `python -m shift_operator.api.reference [--check | --print]`."""

import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from shift_operator.api.base import API_VERSION
from shift_operator.api.crd import KINDS, Kind
from shift_operator.api.generated import write_or_check

FOLDER = "docs/reference"
NOTE = "<!-- Generated from operator/shift_operator/api by `make generate`; do not edit. -->\n"

Schema = dict[str, Any]


def page(kind: Kind) -> str:
    """The whole page of a kind."""
    version = kind.definition()["spec"]["versions"][0]
    schema = version["schema"]["openAPIV3Schema"]
    short = kind.short_name
    return "\n".join(
        [
            NOTE,
            f"# {kind.kind}",
            "",
            schema["description"],
            "",
            f"`apiVersion: {API_VERSION}`, `kind: {kind.kind}`, short name `{short}`"
            f"{'' if kind.namespaced else ', of the whole cluster: it has no namespace'}. "
            f"`kubectl explain {short}.spec` shows the same text. A spec that breaks a rule is refused by the API "
            "server with the rule's sentence.",
            "",
            *_rules(schema),
            "## spec",
            "",
            *_fields(schema["properties"]["spec"], "spec", depth=3),
            *_status(schema),
            "## Columns",
            "",
            f"| `kubectl get {short}` | shows |",
            "|---|---|",
            *(
                f"| {column['name']}{' (`-o wide`)' if column.get('priority') else ''} | {column['description']} |"
                for column in version["additionalPrinterColumns"]
            ),
            "",
        ]
    )


def _status(schema: Schema) -> list[str]:
    status = schema["properties"].get("status")
    return [] if status is None else ["## status", "", *_fields(status, "status", depth=3)]


def files() -> dict[str, str]:
    """The generated pages by their path in the repository."""
    return {f"{FOLDER}/{kind.kind.lower()}.md": page(kind) for kind in KINDS}


def _fields(schema: Schema, path: str, depth: int) -> Iterator[str]:
    yield from _rules(schema)
    required = schema.get("required", [])
    for name, field in schema.get("properties", {}).items():
        at = f"{path}.{name}"
        yield f"{'#' * min(depth, 6)} {at}"
        yield ""
        yield f"{_type(field)}{', required' if name in required else ''}{_limits(field)}"
        yield ""
        yield field.get("description", "")
        yield ""
        inner = field.get("items", field)
        if field is not inner and inner.get("properties"):
            at += "[]"
        if name in _KUBERNETES_OWN:
            yield "As in a pod's spec; `kubectl explain pod.spec." + name + "` has the fields."
            yield ""
        else:
            yield from _fields(inner, at, depth + 1) if inner.get("properties") else _rules(field)


# Documented by Kubernetes itself, at length.
_KUBERNETES_OWN = {"affinity", "tolerations", "topologySpreadConstraints"}


def _rules(schema: Schema) -> Iterator[str]:
    rules = schema.get("x-kubernetes-validations", [])
    for rule in rules:
        yield f"- Rule: {_message(rule)}"
    if rules:
        yield ""


def _message(rule: dict[str, str]) -> str:
    """The refusal's sentence, with dots where it shows a value."""
    if "message" in rule:
        return rule["message"]
    literals = rule["messageExpression"].split("'")[1::2]
    return "…".join(literals).replace("%d", "…")


def _type(field: Schema) -> str:
    kind = field.get("format") or field.get("type", "")
    if kind == "array":
        return f"list of {field['items'].get('type', '')}s"
    if kind == "object" and "additionalProperties" in field:
        return "map of strings"
    if "enum" in field:
        return "one of " + ", ".join(f"`{value}`" for value in field["enum"])
    return str(kind)


def _limits(field: Schema) -> str:
    limits = ""
    if "minimum" in field:
        limits += f", from {field['minimum']}"
    if "maximum" in field:
        limits += f" to {field['maximum']}"
    if "maxItems" in field:
        limits += f", at most {field['maxItems']}"
    if field.get("default") not in (None, {}):
        limits += f", default `{json.dumps(field['default']).strip(chr(34))}`"
    return limits


def main(argv: Sequence[str] | None = None) -> int:
    return write_or_check("Writes the API's reference pages.", files(), argv)


if __name__ == "__main__":
    sys.exit(main())
