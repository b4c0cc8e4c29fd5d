"""Two parts of a manifest as one, as `kubectl`'s strategic merge patch has it.

Objects are merged field by field, lists of objects with a merge key item by item (core/v1 names the keys), and whatever
else both have is the patch's. Pure; the result shares no object with its arguments.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

# patchMergeKey of the lists in core/v1's PodSpec and Container that a template may have.
MERGE_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "ports": "containerPort",
    "volumeMounts": "mountPath",
    "imagePullSecrets": "name",
    "topologySpreadConstraints": "topologyKey",
}


def merged(base: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with what `patch` has; items of merged lists keep base's order, new ones come after."""
    result = deepcopy(dict(base))
    for name, value in patch.items():
        before = result.get(name)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            result[name] = merged(before, value)
        elif isinstance(before, list) and isinstance(value, list) and name in MERGE_KEYS:
            result[name] = _merged_list(before, value, MERGE_KEYS[name])
        else:
            result[name] = deepcopy(value)
    return result


def _merged_list(base: Sequence[Any], patch: Sequence[Any], key: str) -> list[Any]:
    result = list(base)
    for item in patch:
        at = next((i for i, known in enumerate(result) if known.get(key) == item.get(key)), None)
        if at is None:
            result.append(deepcopy(item))
        else:
            result[at] = merged(result[at], item)
    return result
