"""The CustomResourceDefinitions, generated from the types: `python -m shift_operator.api.crd [--check | --print]`."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from shift_operator.api import policy, profile, shiftdeployment
from shift_operator.api.base import GROUP, VERSION, ApiType
from shift_operator.api.generated import write_or_check
from shift_operator.api.openapi import structural_schema

NOTE = "# Generated from operator/shift_operator/api by `make generate`; do not edit.\n"

Columns = tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Kind:
    """A kind of ours as the API server is to serve it; `columns` are what `kubectl get` shows."""

    type_: type[ApiType]
    kind: str
    short_name: str
    namespaced: bool
    columns: Columns
    scales: bool = False

    @property
    def plural(self) -> str:
        return f"{self.kind.lower()[:-1]}ies" if self.kind.endswith("y") else f"{self.kind.lower()}s"

    @property
    def has_status(self) -> bool:
        return "status" in self.type_.model_fields

    @property
    def crd_file(self) -> str:
        """The generated file, by its path in the repository."""
        return f"crds/{GROUP}_{self.plural}.yaml"

    @property
    def chart_file(self) -> str:
        """The chart's copy. Helm never upgrades what lies in a chart's crds/ folder (docs/decisions/0002)."""
        return f"charts/shift-operator/templates/{GROUP}_{self.plural}.yaml"

    def definition(self) -> dict[str, Any]:
        """The CustomResourceDefinition."""
        schema = structural_schema(self.type_)
        schema["properties"] |= {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
        }
        schema["required"] = ["spec"]
        subresources: dict[str, Any] = {"status": {}} if self.has_status else {}
        if self.scales:
            subresources["scale"] = {
                "specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.replicas",
                "labelSelectorPath": ".status.selector",
            }
        return {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{self.plural}.{GROUP}"},
            "spec": {
                "group": GROUP,
                "scope": "Namespaced" if self.namespaced else "Cluster",
                "names": {
                    "kind": self.kind,
                    "listKind": f"{self.kind}List",
                    "plural": self.plural,
                    "singular": self.kind.lower(),
                    "shortNames": [self.short_name],
                    # `kubectl get all` is about one namespace.
                    "categories": ["all", "shift"] if self.namespaced else ["shift"],
                },
                "versions": [
                    {
                        "name": VERSION,
                        "served": True,
                        "storage": True,
                        "schema": {"openAPIV3Schema": schema},
                        **({"subresources": subresources} if subresources else {}),
                        "additionalPrinterColumns": list(self.columns),
                    }
                ],
            },
        }


def _column(name: str, type_: str, path: str, description: str, *, wide: bool = False) -> dict[str, Any]:
    shown = {"name": name, "type": type_, "jsonPath": path, "description": description}
    return shown | ({"priority": 1} if wide else {})


def _condition(type_: str) -> str:
    return f'.status.conditions[?(@.type=="{type_}")].status'


_AGE = _column("Age", "date", ".metadata.creationTimestamp", "Time since creation")

SHIFT_DEPLOYMENT = Kind(
    shiftdeployment.ShiftDeployment,
    shiftdeployment.KIND,
    "sd",
    namespaced=True,
    scales=True,
    columns=(
        _column("Ready", "string", ".status.ready", "Ready replicas of wanted ones"),
        _column("Degree", "string", ".status.degree", "Degree of large steps: sequence x tensor"),
        _column("Shift", "string", ".spec.shift.mode", "Who decides which steps run sequence-parallel"),
        _column("Threshold", "integer", ".status.shift.applied.thresholdTokens", "Threshold that the engines run"),
        _column("Available", "string", _condition("Available"), "Whether enough replicas serve"),
        _AGE,
        _column("Model", "string", ".spec.model.uri", "Where the weights are", wide=True),
        _column("GPUs", "integer", ".spec.parallelism.gpusPerReplica", "GPUs of one replica", wide=True),
        _column("Metrics", "string", _condition("MetricsAvailable"), "Whether mode Auto has what it needs", wide=True),
        _column(
            "Applied", "string", _condition("ConfigurationApplied"), "Whether all ranks run the schedule", wide=True
        ),
        _column("Degraded", "string", _condition("Degraded"), "Whether something needs a person", wide=True),
    ),
)

CLUSTER_SHIFT_POLICY = Kind(
    policy.ClusterShiftPolicy,
    policy.KIND,
    "csp",
    namespaced=False,
    columns=(
        _column("Mode", "string", ".spec.mode", "What is done with decisions"),
        _column("Deployments", "integer", ".status.deployments", "ShiftDeployments to which it applies"),
        _column("GPUs", "string", ".status.gpus", "GPUs that they hold, of those in the budget"),
        _column("Contract", "string", _condition("MetricContractSatisfied"), "Whether every needed series is there"),
        _AGE,
        _column("Namespaces", "string", ".spec.selector.namespaces", "Where it applies; none: everywhere", wide=True),
        _column("Prometheus", "string", ".spec.prometheus.url", "Where its signals come from", wide=True),
    ),
)

SHIFT_PROFILE = Kind(
    profile.ShiftProfile,
    profile.KIND,
    "sp",
    namespaced=False,
    columns=(
        _column("Model", "string", ".spec.key.model", "Where the weights are"),
        _column("GPU", "string", ".spec.key.gpu", "Product name of the GPU"),
        _column("Sequence", "integer", ".spec.key.degree.sequence", "Sequence parallelism of large steps"),
        _column("Tensor", "integer", ".spec.key.degree.tensor", "Tensor parallelism of large steps"),
        _column("Crossover", "integer", ".spec.crossoverTokens", "From how many tokens large steps are faster"),
        _column("Source", "string", ".spec.source", "Who wrote it"),
        _AGE,
        _column("Engine", "string", ".spec.key.engineVersion", "Version of the engine", wide=True),
        _column("KV Tokens", "integer", ".spec.kvTokens", "What one replica's KV cache holds", wide=True),
        _column("Fit Error %", "integer", ".spec.fitErrorPercent", "How far live steps lie from the curves", wide=True),
    ),
)

KINDS = (SHIFT_DEPLOYMENT, CLUSTER_SHIFT_POLICY, SHIFT_PROFILE)


def files() -> dict[str, str]:
    """The generated files by their path in the repository."""
    found: dict[str, str] = {}
    for kind in KINDS:
        text = NOTE + yaml.safe_dump(kind.definition(), sort_keys=False, width=120, allow_unicode=True)
        found |= {kind.crd_file: text, kind.chart_file: _escaped(kind, text)}
    return found


def _escaped(kind: Kind, text: str) -> str:
    """The text as a Helm template that renders to it.

    It stays when the chart is uninstalled, since all of its objects in the cluster would go with it.
    """
    keep = '  annotations:\n    "helm.sh/resource-policy": keep\n'
    body = text.replace("{{", '{{ "{{" }}')
    name = f"  name: {kind.plural}.{GROUP}\n"
    return "{{- if .Values.crds.install }}\n" + body.replace(name, name + keep, 1) + "{{- end }}\n"


def main(argv: Sequence[str] | None = None) -> int:
    return write_or_check("Writes the CustomResourceDefinitions and the chart's copies of them.", files(), argv)


if __name__ == "__main__":
    sys.exit(main())
