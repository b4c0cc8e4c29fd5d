"""GET /metrics of an engine: its requests, or nothing where it does not say."""

from __future__ import annotations

import pytest
from aiohttp import web
from shift_operator.controller.engines import Engines, requests_in

RUNNING, WAITING = "vllm:num_requests_running", "vllm:num_requests_waiting"
# As vLLM 0.32.0 writes them, with a neighbour whose name begins alike.
TEXT = f"""\
# HELP {RUNNING} Number of requests in model execution batches.
# TYPE {RUNNING} gauge
{RUNNING}{{engine="0",model_name="org/name"}} 3.0
{RUNNING}{{engine="1",model_name="org/name"}} 4.0
# TYPE {WAITING} gauge
{WAITING}{{engine="0",model_name="org/name"}} 1.0
{WAITING}_by_reason{{engine="0",reason="capacity"}} 100.0
"""


@pytest.mark.parametrize(
    ("text", "requests"),
    [
        (TEXT, 8),
        (f"{RUNNING} 0\n{WAITING} 0\n", 0),
        (f"{RUNNING} 3\n", None),
        (f"{RUNNING} NaN\n{WAITING} 0\n", None),
        (f"{RUNNING} +Inf\n{WAITING} 0\n", None),
        (f"{RUNNING} many\n{WAITING} 0\n", None),
        ("<html>", None),
        ("", None),
    ],
)
def test_requests_are_counted_or_unknown(text: str, requests: int | None) -> None:
    assert requests_in(text) == requests


async def test_each_ready_engine_is_asked_and_the_silent_are_unknown() -> None:
    def pod(name: str, address: str, *, ready: bool = True) -> dict[str, object]:
        return {
            "metadata": {"name": name, "uid": name},
            "status": {"podIP": address, "conditions": [{"type": "Ready", "status": "True" if ready else "False"}]},
        }

    async def metrics(_: web.Request) -> web.StreamResponse:
        # In two parts, as a long answer comes.
        response = web.StreamResponse()
        await response.prepare(_)
        await response.write(f"{RUNNING} 2\n".encode())
        await response.write(f"{WAITING} 3\n".encode())
        return response

    app = web.Application()
    app.add_routes([web.get("/metrics", metrics)])
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.99.7.1", 8000).start()
    try:
        async with Engines() as engines:
            pods = [pod("a", "127.99.7.1"), pod("b", "127.99.7.2"), pod("c", "127.99.7.1", ready=False)]
            assert await engines.requests(pods) == {"a": 5, "b": None}
    finally:
        await runner.cleanup()
