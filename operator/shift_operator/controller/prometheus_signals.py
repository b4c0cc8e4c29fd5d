"""Prometheus as the decision loop asks it: a few queries, in one thread per policy, read into signals by deployment."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from shift_operator.api.metrics_source import MetricsSource
from shift_operator.api.policy import ClusterShiftPolicySpec
from shift_operator.api.signals import (
    DeploymentKey,
    Instant,
    LatencyLimits,
    Traffic,
    UnknownWhy,
    nothing_known,
    nothing_known_of_traffic,
)
from shift_operator.control.inputs import Observed
from shift_operator.controller.one_thread import OneThread
from shift_operator.controller.settings import Settings
from shift_operator.prometheus.client import PrometheusClient
from shift_operator.prometheus.contract import Expected, contract_query, contract_sentence, read_contract
from shift_operator.prometheus.errors import PrometheusError
from shift_operator.prometheus.query import DEFAULT_WINDOW_SECONDS, cluster_query
from shift_operator.prometheus.signals import read_signals
from shift_operator.prometheus.traffic import read_traffic
from shift_operator.prometheus.traffic_query import traffic_query

log = logging.getLogger(__name__)

QUERY_SECONDS = 5.0
"""A query that takes longer is given up."""
LOOK_SECONDS = 3 * QUERY_SECONDS + 1.0
"""A look is given up after these: a second longer than its queries, so that their error tells more."""

NO_SERIES = "Prometheus has no series of this deployment"

CONTRACT_SECONDS = 60.0
"""Time between two checks that all series are there: what is missing mostly stays so until a person mends it."""


class Asked(NamedTuple):
    """What is to be known of a deployment: attainment at these limits, and whether these series are there."""

    limits: LatencyLimits
    expected: Expected


@dataclass(frozen=True)
class Sighting:
    """What a look saw, by deployment; and a sentence on the series that are missing, None where none is, if that has
    been checked."""

    observed: Mapping[DeploymentKey, Observed]
    contract_checked: bool = False
    contract_faults: str | None = None


Look = Callable[[Instant, Mapping[DeploymentKey, Asked]], Awaitable[Sighting]]
"""Asks Prometheus for deployments as of a moment, within a deadline. Raises whatever kept it from an answer."""


@dataclass(frozen=True)
class Source:
    """A Prometheus, how to reach it, and the past to ask it about in seconds."""

    url: str
    token_file: Path | None = None
    ca_file: Path | None = None
    window_seconds: int = DEFAULT_WINDOW_SECONDS
    max_age_seconds: float = 60.0
    policys: MetricsSource | None = None
    """Where a policy names it."""

    @classmethod
    def of_flags(cls, settings: Settings) -> Self | None:
        """That of the operator's flags; None where they name none."""
        if settings.prometheus_url is None:
            return None
        return cls(settings.prometheus_url, settings.prometheus_token_file, settings.prometheus_ca_file)

    @classmethod
    def of_policy(cls, spec: ClusterShiftPolicySpec, settings: Settings) -> Self | None:
        """That of a policy, which is the flags' where it names none."""
        named = spec.prometheus
        source = cls.of_flags(settings) if named is None else cls(named.url, policys=named)
        if source is None:
            return None
        window, max_age = spec.signals.window_seconds, float(spec.signals.max_age_seconds)
        return replace(source, window_seconds=window, max_age_seconds=max_age)

    def client(self) -> PrometheusClient:
        """A client of it. Its errors name the flags or the policy's fields."""
        if self.policys is not None:
            return PrometheusClient.of(self.policys, timeout_seconds=QUERY_SECONDS)
        return PrometheusClient(
            self.url, timeout_seconds=QUERY_SECONDS, token_file=self.token_file, ca_file=self.ca_file
        )


class Looks:
    """The looks of all policies. Each has a thread and connections of its own, so that one that hangs delays no other.

    Close it, or use it as a context manager.
    """

    def __init__(self) -> None:
        self._open: dict[str, _Look] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.keep(())

    def of(self, policy: str, source: Source) -> Look:
        """The look of a policy at this source; its earlier one at another source is closed."""
        look = self._open.get(policy)
        if look is None or look.source != source:
            if look is not None:
                look.close()
            look = self._open[policy] = _Look(source)
        return look.thread

    def keep(self, policies: tuple[str, ...]) -> None:
        """Closes the looks of all other policies."""
        for name in [name for name in self._open if name not in policies]:
            self._open.pop(name).close()


class _Look:
    """One source with its connections and its thread."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._client = source.client()
        self._steps = cluster_query(source.window_seconds)
        self._contract = contract_query()
        self._contract_faults: str | None = None
        self._suspected = False
        self._checked_at = -inf
        self.thread = OneThread(self._look, seconds=LOOK_SECONDS, name="query")

    def _look(self, at: Instant, asked: Mapping[DeploymentKey, Asked]) -> Sighting:
        signals = read_signals(self._client.query(self._steps, at))
        traffic, otherwise = self._look_at_traffic(at, {key: of.limits for key, of in asked.items()})
        self._check_contract(at, {key: of.expected for key, of in asked.items()})
        nothing = nothing_known(UnknownWhy.ABSENT, NO_SERIES)
        observed = {
            key: Observed(signals.get(key, nothing), traffic.get(key, otherwise))
            for key in signals.keys() | traffic.keys()
        }
        return Sighting(observed, self._checked_at > -inf, self._contract_faults)

    def _check_contract(self, at: Instant, expected: Mapping[DeploymentKey, Expected]) -> None:
        if at - self._checked_at < CONTRACT_SECONDS:
            return
        try:
            result = self._client.query(self._contract, at)
        except PrometheusError as error:  # what was found last stands, and the next look asks again
            log.warning("contract not checked", extra={"error": str(error)})
            return
        faults = read_contract(result, expected, max_age_seconds=self.source.max_age_seconds)
        sentence = contract_sentence(faults)
        # A pod that has just become ready may not be scraped yet: what is missing must be so in the next look too.
        self._suspected = sentence is not None and self._contract_faults is None and not self._suspected
        if not self._suspected:
            self._contract_faults, self._checked_at = sentence, at

    def _look_at_traffic(
        self, at: Instant, limits: Mapping[DeploymentKey, LatencyLimits]
    ) -> tuple[Mapping[DeploymentKey, Traffic], Traffic]:
        """By deployment, and of those that are not among them. That it fails costs no threshold."""
        try:
            promql = traffic_query(self.source.window_seconds, limits.values())
            traffic = read_traffic(self._client.query(promql, at), limits)
        except PrometheusError as error:
            return {}, nothing_known_of_traffic(UnknownWhy.UNREACHABLE, str(error))
        return traffic, nothing_known_of_traffic(UnknownWhy.ABSENT, NO_SERIES)

    def close(self) -> None:
        """Does not wait for a query that hangs."""
        self.thread.close()
        self._client.close()
