"""Whether a live object is as wanted, so that a reconcile with nothing to do writes nothing.

Server-side apply records in `metadata.managedFields` which fields we own. That record answers what a comparison of
values alone cannot, without a schema and without a hash kept beside the object:

- a wanted field that we do not own was changed by someone else: ownership goes with a change, also with one back;
- a field that we own and do not want any more must be removed, which a subset comparison would never see;
- what the server defaulted, other managers set or a webhook injected is not ours and not compared;
- how a list merges (by key, as a set, as a whole) is in the record's keys.

Values are compared too: a mutating webhook may change a field on the way in and leave it with us. Plans write values in
the API server's own form ("2", not 2, for a quantity; no empty fields), so they compare exactly.

The live object needs the `fieldsV1` of its managers; without them every comparison says `not applied by us`.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from shift_operator.api import labels
from shift_operator.planning.manifest import Body, Manifest

Fields = Mapping[str, Any]

# These say which object it is; the record of ownership leaves them out.
_IDENTITY = {"apiVersion", "kind"}
_IDENTITY_METADATA = {"name", "namespace"}


@dataclass(frozen=True)
class Difference:
    """A field that is not as wanted. `by` is the manager that owns it now, None where nobody does."""

    path: str
    why: str
    by: str | None = None

    def __str__(self) -> str:
        return f"{self.path} {self.why}" + (f" by {self.by}" if self.by else "")


def differences(wanted: Manifest, live: Body | None) -> tuple[Difference, ...]:
    """What applying `wanted` would change in the live object; empty when there is nothing to do."""
    if live is None:
        return (Difference("object", "is missing"),)
    ours = _owned(live)
    if ours is None:
        return (Difference("object", "was not applied by us"),)
    found = _compare(_without_identity(wanted.body), live, ours, ())
    return tuple(Difference(_path(steps), why, _owner(live, steps)) for steps, why in found)


def _owned(live: Body) -> Fields | None:
    for entry in live["metadata"].get("managedFields") or ():
        if (entry.get("manager"), entry.get("operation")) == (labels.FIELD_MANAGER, "Apply") and "fieldsV1" in entry:
            fields: Fields = entry["fieldsV1"]
            return fields
    return None


def _without_identity(body: Body) -> dict[str, Any]:
    content = {key: value for key, value in body.items() if key not in _IDENTITY}
    metadata = content.get("metadata", {})
    return content | {"metadata": {k: v for k, v in metadata.items() if k not in _IDENTITY_METADATA}}


_Steps = tuple[str, ...]  # of the record of ownership: f:name, k:{"name":"engine"}, v:"value"
_Found = tuple[_Steps, str]


def _compare(wanted: Any, live: Any, owned: Fields, at: _Steps) -> Iterator[_Found]:
    parts = {step: fields for step, fields in owned.items() if step != "."}
    if not parts:  # the server takes this value as a whole
        if wanted != live:
            yield at, "was changed"
        return
    children = dict(_children(wanted, parts))
    for step, value in children.items():
        if step not in parts:
            yield (*at, step), "was changed"
        else:
            yield from _compare(value, _child(live, step), parts[step], (*at, step))
    for step in parts.keys() - children.keys():
        yield (*at, step), "is no longer wanted"


def _children(wanted: Any, parts: Fields) -> Iterator[tuple[str, Any]]:
    """The wanted value's parts by the step that leads to each."""
    if isinstance(wanted, Mapping):
        for key, value in wanted.items():
            yield f"f:{key}", value
    elif isinstance(wanted, list):
        keys = next((tuple(json.loads(step[2:])) for step in parts if step.startswith("k:")), None)
        for item in wanted:
            if keys is None:
                yield f"v:{_json(item)}", item
            else:
                yield f"k:{_json({key: item[key] for key in keys if key in item})}", item


def _child(live: Any, step: str) -> Any:
    """The part of the live value at this step; None where it is not."""
    kind, _, name = step.partition(":")
    if kind == "f":
        return live.get(name) if isinstance(live, Mapping) else None
    if not isinstance(live, list):
        return None
    value = json.loads(name)
    if kind == "v":
        return value if value in live else None
    return next((item for item in live if all(item.get(k) == v for k, v in value.items())), None)


def _owner(live: Body, steps: _Steps) -> str | None:
    """The manager other than us that owns the field, or something in it, or the whole that it belongs to."""
    for entry in live["metadata"].get("managedFields") or ():
        if entry.get("manager") != labels.FIELD_MANAGER:
            fields = entry.get("fieldsV1") or {}
            for step in steps:
                if step not in fields:
                    break
                fields = fields[step]
            else:
                return str(entry["manager"])
    return None


def _path(steps: _Steps) -> str:
    """For people: spec.template.spec.containers[engine].image."""
    path = ""
    for step in steps:
        kind, _, name = step.partition(":")
        if kind == "f":
            path += f".{name}" if path else name
        elif kind == "k":
            path += f"[{','.join(str(value) for value in json.loads(name).values())}]"
        else:
            path += f"[{name}]"
    return path


def _json(value: Any) -> str:
    """As the API server writes the keys of its record."""
    return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False)
