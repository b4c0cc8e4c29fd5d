"""Environment variables of a container, in the API server's own form."""

from collections.abc import Iterable
from typing import Any

from shift_operator.api.engine import EnvironmentVariable
from shift_operator.api.template import Variable

Part = dict[str, Any]


def variables(variables: Iterable[EnvironmentVariable | Variable]) -> list[Part]:
    """The user's variables, in the user's order."""
    return [_variable(variable) for variable in variables]


def from_field(name: str, path: str) -> Part:
    """A variable with the value of a field of the pod."""
    return {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}


def _variable(variable: EnvironmentVariable | Variable) -> Part:
    body = variable.to_body()
    if "fieldRef" in body.get("valueFrom", {}):
        return from_field(variable.name, body["valueFrom"]["fieldRef"]["fieldPath"])
    if body.get("value") == "":
        del body["value"]  # the API server drops it, so we must not claim to own it
    return body
