"""Prometheus as the decision loop asks it: one query, in one thread, read into signals per deployment."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from shift_operator.api.signals import DeploymentKey, Instant, Signals
from shift_operator.controller.decision_loop import Look
from shift_operator.controller.one_thread import OneThread
from shift_operator.controller.settings import Settings
from shift_operator.prometheus.client import PrometheusClient
from shift_operator.prometheus.query import cluster_query
from shift_operator.prometheus.signals import read_signals

QUERY_SECONDS = 5.0
"""A query that takes longer is given up; the thread is waited for a second longer, so that its error tells more."""


@asynccontextmanager
async def looking_at(settings: Settings) -> AsyncIterator[Look | None]:
    """The look of the decision loop while the context lasts; None where no Prometheus is configured."""
    if settings.prometheus_url is None:
        yield None
        return
    client = PrometheusClient(
        settings.prometheus_url,
        timeout_seconds=QUERY_SECONDS,
        token_file=settings.prometheus_token_file,
        ca_file=settings.prometheus_ca_file,
    )
    promql = cluster_query()

    def look(at: Instant) -> Mapping[DeploymentKey, Signals]:
        return read_signals(client.query(promql, at))

    thread = OneThread(look, seconds=QUERY_SECONDS + 1, name="query")
    try:
        yield thread
    finally:
        thread.close()
        client.close()
