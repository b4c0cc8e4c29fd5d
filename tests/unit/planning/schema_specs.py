"""Specs drawn from the CRD's own schema: what its types, bounds, patterns and enums allow, its CEL rules aside.

So a new field is drawn without anybody adding it here. Words at `known` paths are drawn from lists, since hardly any
random text is an image or a model's URI. What the rules refuse of these specs, only an API server knows.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from shift_operator.api.crd import SHIFT_DEPLOYMENT

Schema = dict[str, Any]

MAX_ITEMS = 2
MAX_WORD = 8

SCHEMA: Schema = SHIFT_DEPLOYMENT.definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]

# kubectl writes others as they are into the YAML of an apply, where the API server does not take them.
_printed = st.characters(categories=["L", "N", "P", "S", "Zs"])
_words = st.text("abxyz019-", min_size=1, max_size=MAX_WORD)
_names = st.from_regex(r"[a-z]([-a-z0-9]{0,6}[a-z0-9])?", fullmatch=True)
_labels = st.dictionaries(_names, _names, max_size=MAX_ITEMS)
_images = st.sampled_from(["example.com/engine:1", "engine@sha256:" + "0" * 64])

_variables = st.sampled_from(["A", "_"])
_keys = st.fixed_dictionaries({"name": _names, "key": _words})
_sources = st.one_of(
    st.fixed_dictionaries({"fieldRef": st.just({"fieldPath": "spec.nodeName"})}),
    st.fixed_dictionaries({"secretKeyRef": _keys}),
    st.fixed_dictionaries({"configMapKeyRef": _keys}),
)
_requirements = st.one_of(
    st.fixed_dictionaries({"key": _names, "operator": st.sampled_from(["Exists", "DoesNotExist"])}),
    st.fixed_dictionaries(
        {"key": _names, "operator": st.sampled_from(["In", "NotIn"]), "values": st.lists(_names, min_size=1)}
    ),
)
_SELECTORS = (
    "scheduling.topologySpreadConstraints.[].labelSelector",
    *(
        f"scheduling.affinity.{kind}.{how}.[].{of}{selector}"
        for kind in ("podAffinity", "podAntiAffinity")
        for how, of in (
            ("requiredDuringSchedulingIgnoredDuringExecution", ""),
            ("preferredDuringSchedulingIgnoredDuringExecution", "podAffinityTerm."),
        )
        for selector in ("labelSelector", "namespaceSelector")
    ),
)

KNOWN: dict[str, st.SearchStrategy[Any]] = {
    "model": st.one_of(
        st.fixed_dictionaries(
            {"uri": st.sampled_from(["pvc://claim/a/b", "pvc://claim", "file:///models/tiny"])},
            optional={"name": _names},
        ),
        st.fixed_dictionaries(
            {"uri": st.sampled_from(["s3://models/a", "s3://models"])},
            optional={
                "s3": st.fixed_dictionaries(
                    {"endpointURL": st.just("http://minio:9000")},
                    optional={
                        "addressing": st.sampled_from(["Path", "VirtualHost"]),
                        "region": st.just("eu-central-1"),
                        "credentialsSecretName": _names,
                    },
                )
            },
        ),
        st.fixed_dictionaries(
            {"uri": st.just("hf://org/name")},
            optional={
                "name": _names,
                "revision": _names,
                "tokenSecretRef": _keys,
                "cache": st.fixed_dictionaries({"claimName": _names}, optional={"subPath": _names}),
            },
        ),
    ),
    "engine.image": _images,
    "engine.args": st.lists(st.sampled_from(["--enforce-eager", "-O3", "$(POD_IP)", "ä b"]), max_size=MAX_ITEMS),
    "engine.env": st.lists(
        st.one_of(
            st.fixed_dictionaries({"name": _variables}, optional={"value": st.text(_printed, max_size=MAX_WORD)}),
            st.fixed_dictionaries({"name": _variables, "valueFrom": _sources}),
        ),
        max_size=MAX_ITEMS,
        unique_by=lambda variable: variable["name"],
    ),
    "parallelism": st.sampled_from([(2, 1), (4, 2), (8, 8)]).map(
        lambda degree: {
            "gpusPerReplica": degree[0] * degree[1],
            "degree": {"sequence": degree[0], "tensor": degree[1]},
        }
    ),
    "shift.thresholdRange.min": st.integers(1, 100),
    "shift.thresholdRange.max": st.integers(1000, 131072),
    "shift.thresholdTokens": st.integers(100, 1000),
    "scaling": st.sampled_from(
        [{"mode": "Fixed"}, {"mode": "External"}, {"mode": "Managed", "maxReplicas": 3, "idle": {"replicas": 0}}]
    ),
    "slo": st.just({"ttft": {"milliseconds": 800}}),
    "rollout.maxSurge": st.integers(1, 3),
    "rollout.maxUnavailable": st.integers(1, 3),
    "scheduling.resourceName": st.sampled_from(["nvidia.com/gpu", "amd.com/gpu"]),
    "scheduling.nodeSelector": _labels,
    "scheduling.priorityClassName": _names,
    "scheduling.tolerations": st.lists(
        st.sampled_from([{"operator": "Exists"}, {"key": "a", "effect": "NoExecute", "tolerationSeconds": 0}]),
        max_size=MAX_ITEMS,
    ),
    **{
        path: st.fixed_dictionaries(
            {}, optional={"matchLabels": _labels, "matchExpressions": st.lists(_requirements, max_size=MAX_ITEMS)}
        )
        for path in _SELECTORS
    },
    "template.metadata.labels": _labels,
    "template.metadata.annotations": _labels,
    "template.spec.containers.[].volumeMounts.[].name": st.just("schedule"),
    "template.spec.initContainers.[].volumeMounts.[].name": st.just("schedule"),
    "template.spec.containers.[].name": st.sampled_from(["engine", "logs", "proxy"]),
    "template.spec.containers.[].image": _images,
    "template.spec.initContainers.[].name": st.sampled_from(["first", "second"]),
    "template.spec.initContainers.[].image": _images,
}
"""What is drawn at these paths of the spec; `[]` stands for the items of a list."""


def of(schema: Schema, known: dict[str, st.SearchStrategy[Any]], path: str = "") -> st.SearchStrategy[Any]:
    """Values that this part of a structural schema allows."""
    if path in known:
        return known[path]
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    match schema["type"]:
        case "object":
            return _objects(schema, known, path)
        case "array":
            return _lists(schema, known, path)
        case "string":
            return _strings(schema)
        case "integer":
            return st.integers(schema.get("minimum", -(2**31)), schema.get("maximum", 2**31 - 1))
        case "boolean":
            return st.booleans()
    raise TypeError(f"{path}: nothing is drawn for the type {schema['type']} yet; add it here")


def _objects(schema: Schema, known: dict[str, st.SearchStrategy[Any]], path: str) -> st.SearchStrategy[Any]:
    if "additionalProperties" in schema:
        return st.dictionaries(_words, of(schema["additionalProperties"], known, f"{path}.*"), max_size=MAX_ITEMS)
    fields = {
        name: of(field, known, f"{path}.{name}".lstrip(".")) for name, field in schema.get("properties", {}).items()
    }
    required = {name: fields.pop(name) for name in schema.get("required", ())}
    return st.fixed_dictionaries(required, optional=fields)


def _lists(schema: Schema, known: dict[str, st.SearchStrategy[Any]], path: str) -> st.SearchStrategy[Any]:
    fewest, keys = schema.get("minItems", 0), schema.get("x-kubernetes-list-map-keys")
    most = max(fewest, min(MAX_ITEMS, schema.get("maxItems", MAX_ITEMS)))
    unique = None if keys is None else (lambda item: tuple(item.get(key) for key in keys))
    return st.lists(of(schema["items"], known, f"{path}.[]"), min_size=fewest, max_size=most, unique_by=unique)


def _strings(schema: Schema) -> st.SearchStrategy[str]:
    shortest, longest = schema.get("minLength", 0), schema.get("maxLength", MAX_WORD)
    if "pattern" not in schema:
        return st.text(_printed, min_size=shortest, max_size=max(shortest, min(longest, MAX_WORD)))
    matching = st.from_regex(schema["pattern"], fullmatch=True)
    return matching.filter(lambda word: shortest <= len(word) <= longest)


shapes = of(SCHEMA, {})
"""Any spec of the schema's shape."""

likely = of(SCHEMA, KNOWN)
"""Specs of which the rules accept a good part."""
