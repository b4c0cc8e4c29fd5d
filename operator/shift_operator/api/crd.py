"""The CustomResourceDefinition, generated from the types: `python -m shift_operator.api.crd [--check | --print]`."""

import sys
from collections.abc import Sequence
from typing import Any

import yaml

from shift_operator.api.base import GROUP, VERSION
from shift_operator.api.generated import write_or_check
from shift_operator.api.openapi import structural_schema
from shift_operator.api.shiftdeployment import KIND, ShiftDeployment

PLURAL = "shiftdeployments"
CRD_FILE = f"crds/{GROUP}_{PLURAL}.yaml"
# Helm never upgrades what lies in a chart's crds/ folder, so the chart has it as a template (docs/decisions/0002).
CHART_FILE = f"charts/shift-operator/templates/{GROUP}_{PLURAL}.yaml"
NOTE = "# Generated from operator/shift_operator/api by `make generate`; do not edit.\n"


def shift_deployment_crd() -> dict[str, Any]:
    """The CustomResourceDefinition of ShiftDeployment."""
    schema = structural_schema(ShiftDeployment)
    schema["properties"] |= {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object"},
    }
    schema["required"] = ["spec"]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": ["sd"],
                "categories": ["all", "shift"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": schema},
                    "subresources": {
                        "status": {},
                        "scale": {
                            "specReplicasPath": ".spec.replicas",
                            "statusReplicasPath": ".status.replicas",
                            "labelSelectorPath": ".status.selector",
                        },
                    },
                    "additionalPrinterColumns": _columns(),
                }
            ],
        },
    }


def _columns() -> list[dict[str, Any]]:
    def column(name: str, type_: str, path: str, description: str, *, wide: bool = False) -> dict[str, Any]:
        shown = {"name": name, "type": type_, "jsonPath": path, "description": description}
        return shown | ({"priority": 1} if wide else {})

    def condition(type_: str) -> str:
        return f'.status.conditions[?(@.type=="{type_}")].status'

    return [
        column("Ready", "string", ".status.ready", "Ready replicas of wanted ones"),
        column("Degree", "string", ".status.degree", "Degree of large steps: sequence x tensor"),
        column("Shift", "string", ".spec.shift.mode", "Who decides which steps run sequence-parallel"),
        column("Threshold", "integer", ".status.shift.applied.thresholdTokens", "Threshold that the engines run"),
        column("Available", "string", condition("Available"), "Whether enough replicas serve"),
        column("Age", "date", ".metadata.creationTimestamp", "Time since creation"),
        column("Model", "string", ".spec.model.uri", "Where the weights are", wide=True),
        column("GPUs", "integer", ".spec.parallelism.gpusPerReplica", "GPUs of one replica", wide=True),
        column("Metrics", "string", condition("MetricsAvailable"), "Whether mode Auto has what it needs", wide=True),
        column("Applied", "string", condition("ConfigurationApplied"), "Whether all ranks run the schedule", wide=True),
        column("Degraded", "string", condition("Degraded"), "Whether something needs a person", wide=True),
    ]


def files() -> dict[str, str]:
    """The generated files by their path in the repository."""
    text = NOTE + yaml.safe_dump(shift_deployment_crd(), sort_keys=False, width=120, allow_unicode=True)
    return {CRD_FILE: text, CHART_FILE: _escaped(text)}


def _escaped(text: str) -> str:
    """The text as a Helm template that renders to it.

    It stays when the chart is uninstalled, since all ShiftDeployments of the cluster would go with it.
    """
    keep = '  annotations:\n    "helm.sh/resource-policy": keep\n'
    body = text.replace("{{", '{{ "{{" }}')
    name = f"  name: {PLURAL}.{GROUP}\n"
    return "{{- if .Values.crds.install }}\n" + body.replace(name, name + keep, 1) + "{{- end }}\n"


def main(argv: Sequence[str] | None = None) -> int:
    return write_or_check("Writes the CustomResourceDefinition and the chart's copy of it.", files(), argv)


if __name__ == "__main__":
    sys.exit(main())
