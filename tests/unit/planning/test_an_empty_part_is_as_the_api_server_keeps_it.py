"""What a user leaves empty is written as the API server keeps it: else we would own fields that are not there."""

from __future__ import annotations

from collections.abc import Callable

from shift_operator.api.shiftdeployment import ShiftDeployment
from shift_operator.planning.pod import pod_spec

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def test_empty_lists_and_words_go_and_empty_selectors_stay(a_deployment: Callable[..., ShiftDeployment]) -> None:
    term = {"topologyKey": "zone", "namespaces": [], "namespaceSelector": {}, "labelSelector": {"matchLabels": {}}}
    spec = pod_spec(
        a_deployment(
            scheduling={
                "nodeSelector": {"a": ""},
                "tolerations": [{"key": "a", "value": ""}],
                "affinity": {"nodeAffinity": {}, "podAffinity": {REQUIRED: [term]}, "podAntiAffinity": {REQUIRED: []}},
            }
        )
    )
    assert spec["nodeSelector"] == {"a": ""}
    assert spec["tolerations"] == [{"key": "a"}]
    assert spec["affinity"] == {
        "nodeAffinity": {},
        "podAffinity": {REQUIRED: [{"topologyKey": "zone", "namespaceSelector": {}, "labelSelector": {}}]},
        "podAntiAffinity": {},
    }


def test_an_empty_value_of_a_wanted_label_stays(a_deployment: Callable[..., ShiftDeployment]) -> None:
    constraint = {
        "maxSkew": 1,
        "topologyKey": "zone",
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"a": ""}, "matchExpressions": []},
    }
    (spread,) = pod_spec(a_deployment(scheduling={"topologySpreadConstraints": [constraint]}))[
        "topologySpreadConstraints"
    ]
    assert spread["labelSelector"] == {"matchLabels": {"a": ""}}
