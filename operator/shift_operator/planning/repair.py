"""What an apply alone cannot undo: it takes back our fields and removes nobody else's.

`kubectl set env deploy/chat POD_NAME=x` gives a variable of ours a value beside our valueFrom, `kubectl set env --from`
a valueFrom beside our value. The API server refuses both together: every apply of ours, until someone removed theirs.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from shift_operator.planning.manifest import Body, Manifest

Operation = dict[str, Any]
"""One operation of a JSON patch (RFC 6902)."""

_CONTAINERS = ("initContainers", "containers")


def removals(wanted: Manifest, live: Body) -> list[Operation]:
    """The JSON patch that takes away from the live workload what cannot stand beside the wanted variables. Empty where
    there is nothing of that kind.

    It only removes: what it added would be ours twice, by an update and by an apply, and no apply could drop it again.
    """
    template = (wanted.body.get("spec") or {}).get("template")
    if not isinstance(template, Mapping) or "containers" not in template.get("spec", {}):
        return []
    ours = {
        (container["name"], variable["name"]): variable
        for kind in _CONTAINERS
        for container in template["spec"].get(kind) or ()
        for variable in container.get("env") or ()
    }
    found = []
    for at, container, variable in _variables(live["spec"]["template"]["spec"]):
        field = _beside(ours.get((container, variable["name"])), variable)
        if field is not None:
            # Whoever changed the list meanwhile moved what is meant.
            found.append({"op": "test", "path": f"{at}/name", "value": variable["name"]})
            found.append({"op": "remove", "path": f"{at}/{field}"})
    return found


def _variables(spec: Body) -> Iterator[tuple[str, str, Body]]:
    """(path, container, variable) of each variable of a live pod template."""
    for kind in _CONTAINERS:
        for number, container in enumerate(spec.get(kind) or ()):
            for index, variable in enumerate(container.get("env") or ()):
                yield f"/spec/template/spec/{kind}/{number}/env/{index}", container["name"], variable


def _beside(wanted: Body | None, live: Body) -> str | None:
    """The live variable's field that the API server refuses beside the wanted ones."""
    if wanted is None:
        return None
    source = live.get("valueFrom") or {}
    if "valueFrom" in wanted:
        if live.get("value"):
            return "value"
        return "valueFrom" if source.keys() - wanted["valueFrom"].keys() else None
    return "valueFrom" if wanted.get("value") and source else None
