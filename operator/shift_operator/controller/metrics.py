"""The operator's own metrics, all named `shift_operator_*`."""

from __future__ import annotations

from enum import StrEnum

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from shift_operator import __version__
from shift_operator.api.signals import DeploymentKey

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series per counter that nobody reads


class Result(StrEnum):
    """Whose fault a failed reconcile is; `NONE` is a success."""

    NONE = "none"
    SPEC = "spec"  # the user's: the spec or a name it needs cannot be had
    INTERNAL = "internal"  # ours or the cluster's


class Metrics:
    """One process's metrics, in a registry of their own so that two operators fit into one test process."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        Gauge("shift_operator_build_info", "What runs: always 1.", ["version"], registry=registry).labels(
            __version__
        ).set(1)
        self._reconciles = Counter(
            "shift_operator_reconciles",
            "Finished reconciles by whose error they ended with.",
            ["error"],
            registry=registry,
        )
        self._reconcile_seconds = Histogram(
            "shift_operator_reconcile_seconds", "Duration of a reconcile.", registry=registry
        )
        self.queue_depth = Gauge(
            "shift_operator_queue_depth", "ShiftDeployments that wait for a worker.", registry=registry
        )
        self._requests = Counter(
            "shift_operator_api_requests",
            "Requests to the API server, without kopf's watches. Verbs patch and create are writes.",
            ["verb", "resource", "outcome"],
            registry=registry,
        )
        self._ticks = Counter(
            "shift_operator_decision_ticks",
            "Ticks of the decision loop by outcome: ok, or the error of its query.",
            ["outcome"],
            registry=registry,
        )
        self.decision_lag_seconds = Gauge(
            "shift_operator_decision_lag_seconds", "How late the last tick began.", registry=registry
        )
        self._decisions = Counter(
            "shift_operator_decisions",
            "Decisions by knob, verb and reason.",
            ["knob", "verb", "reason"],
            registry=registry,
        )
        self.query_seconds = Histogram(
            "shift_operator_prometheus_query_seconds", "Duration of the query to Prometheus.", registry=registry
        )
        self._threshold = Gauge(
            "shift_operator_threshold_tokens",
            "The threshold that the operator asks of a deployment's engines.",
            ["namespace", "deployment"],
            registry=registry,
        )
        for result in Result:
            self._reconciles.labels(result)

    def reconciled(self, seconds: float, result: Result) -> None:
        self._reconciles.labels(result).inc()
        self._reconcile_seconds.observe(seconds)

    def request(self, verb: str, resource: str, outcome: str) -> None:
        self._requests.labels(verb, resource, outcome).inc()

    def tick(self, outcome: str) -> None:
        self._ticks.labels(outcome).inc()

    def decided(self, knob: str, verb: str, reason: str) -> None:
        self._decisions.labels(knob, verb, reason).inc()

    def threshold(self, key: DeploymentKey, tokens: int | None) -> None:
        """The threshold of a deployment; None once it has none or is gone."""
        if tokens is not None:
            self._threshold.labels(key.namespace, key.name).set(tokens)
        elif (key.namespace, key.name) in self._threshold._metrics:
            self._threshold.remove(key.namespace, key.name)

    def text(self) -> bytes:
        """All of it in Prometheus's text format."""
        return generate_latest(self.registry)
