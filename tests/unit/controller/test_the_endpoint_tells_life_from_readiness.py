"""/healthz, /readyz and /metrics, over HTTP."""

import aiohttp
from shift_operator.api.signals import DeploymentKey
from shift_operator.controller.http import Readiness, serve
from shift_operator.controller.metrics import Metrics, Result


async def test_a_living_process_is_healthy_and_ready_once_nothing_is_missing() -> None:
    readiness = Readiness()
    readiness.needs("watches")
    async with serve("127.0.0.1", 0, Metrics(), readiness) as port, aiohttp.ClientSession() as session:
        async with session.get(f"http://127.0.0.1:{port}/healthz") as answer:
            assert answer.status == 200
        async with session.get(f"http://127.0.0.1:{port}/readyz") as answer:
            assert (answer.status, await answer.text()) == (503, "not ready: watches\n")
        readiness.has("watches")
        async with session.get(f"http://127.0.0.1:{port}/readyz") as answer:
            assert answer.status == 200


async def test_the_metrics_are_served_as_text() -> None:
    metrics = Metrics()
    metrics.reconciled(0.02, Result.NONE)
    metrics.request("patch", "deployments.apps", "ok")
    metrics.threshold(DeploymentKey("prod", "chat"), 512)
    async with (
        serve("127.0.0.1", 0, metrics, Readiness()) as port,
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}/metrics") as answer,
    ):
        assert answer.headers["Content-Type"].startswith("text/plain")
        lines = (await answer.text()).splitlines()
    assert 'shift_operator_reconciles_total{error="none"} 1.0' in lines
    assert 'shift_operator_api_requests_total{outcome="ok",resource="deployments.apps",verb="patch"} 1.0' in lines
    assert 'shift_operator_threshold_tokens{deployment="chat",namespace="prod"} 512.0' in lines


def test_a_deployment_that_is_gone_leaves_no_threshold_behind() -> None:
    metrics = Metrics()
    metrics.threshold(DeploymentKey("prod", "chat"), 512)
    metrics.threshold(DeploymentKey("prod", "chat"), None)
    metrics.threshold(DeploymentKey("prod", "never-known"), None)
    assert b"shift_operator_threshold_tokens{" not in metrics.text()
