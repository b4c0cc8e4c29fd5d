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


RECONCILE_BUCKETS = (
    0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0,
)  # fmt: skip
"""Fine below the second that a reconcile should not exceed."""


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
        self.leader = Gauge(
            "shift_operator_leader", "1 where this process works, 0 where it stands by for another.", registry=registry
        )
        self._reconciles = Counter(
            "shift_operator_reconciles",
            "Finished reconciles by whose error they ended with.",
            ["error"],
            registry=registry,
        )
        self._reconcile_seconds = Histogram(
            "shift_operator_reconcile_seconds", "Duration of a reconcile.", buckets=RECONCILE_BUCKETS, registry=registry
        )
        self.queue_depth = Gauge(
            "shift_operator_queue_depth", "ShiftDeployments that wait for a worker.", registry=registry
        )
        self._requests = Counter(
            "shift_operator_api_requests",
            "Requests to the API server, without kopf's watches. Verbs patch, create and update are writes.",
            ["verb", "resource", "outcome"],
            registry=registry,
        )
        self._ticks = Counter(
            "shift_operator_decision_ticks",
            "Ticks of the decision loop by outcome: ok, or the error of its query. The built-in policy has no name.",
            ["policy", "outcome"],
            registry=registry,
        )
        self.decision_lag_seconds = Gauge(
            "shift_operator_decision_lag_seconds", "How late the last tick began.", registry=registry
        )
        self.tick_seconds = Histogram(
            "shift_operator_decision_tick_seconds",
            "Duration of a tick of one policy: its query and its decisions.",
            registry=registry,
        )
        self._decisions = Counter(
            "shift_operator_decisions",
            "Decisions by knob, verb and reason. Those in mode Advisory were shown and not carried out.",
            ["knob", "verb", "reason", "mode"],
            registry=registry,
        )
        self.query_seconds = Histogram(
            "shift_operator_prometheus_query_seconds", "Duration of the query to Prometheus.", registry=registry
        )
        self.confirm_seconds = Histogram(
            "shift_operator_decision_confirm_seconds",
            "Time from a decision until it was carried out: confirmed by all ranks of all ready pods, or served by as "
            "many replicas.",
            ["knob"],
            buckets=(0.5, 1, 2, 3, 5, 10, 20, 30, 60, 120, 300, 600, 1200),
            registry=registry,
        )
        self._policy_gpus = Gauge(
            "shift_operator_policy_gpus",
            "GPUs that the pods of a policy's deployments hold. The built-in policy has no name.",
            ["policy"],
            registry=registry,
        )
        self._policy_gpus_limit = Gauge(
            "shift_operator_policy_gpus_limit",
            "GPUs of a policy's budget; no series where it has none.",
            ["policy"],
            registry=registry,
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

    def tick(self, policy: str, outcome: str) -> None:
        self._ticks.labels(policy, outcome).inc()

    def decided(self, knob: str, verb: str, reason: str, mode: str) -> None:
        self._decisions.labels(knob, verb, reason, mode).inc()

    def policy_gpus(self, policy: str, in_use: int | None, limit: int | None) -> None:
        """The GPUs of a policy, and its budget's; `in_use` is None once the policy is gone."""
        for gauge, value in ((self._policy_gpus, in_use), (self._policy_gpus_limit, limit)):
            if value is not None and in_use is not None:
                gauge.labels(policy).set(value)
            elif (policy,) in gauge._metrics:
                gauge.remove(policy)

    def threshold(self, key: DeploymentKey, tokens: int | None) -> None:
        """The threshold of a deployment; None once it has none or is gone."""
        if tokens is not None:
            self._threshold.labels(key.namespace, key.name).set(tokens)
        elif (key.namespace, key.name) in self._threshold._metrics:
            self._threshold.remove(key.namespace, key.name)

    def text(self) -> bytes:
        """All of it in Prometheus's text format."""
        return generate_latest(self.registry)
