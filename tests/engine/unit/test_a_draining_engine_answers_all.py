"""A drain on the real HTTP server: every request is answered, clients are told to leave, and then it is over."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import uvicorn
from shift_engine import drain
from shift_engine.drain import TEARDOWN_SECONDS, Drain, DrainingResponses

PATIENCE_SECONDS = 60.0
KEEP_ALIVE_SECONDS = 3600  # no connection of these tests is closed by time


@dataclass
class Served:
    """An application on a real server. GET /slow streams until it is let go."""

    server: uvicorn.Server
    url: str
    drain: Drain
    goes_on: threading.Event = field(default_factory=threading.Event)
    alive: bool = True

    def begin(self, seconds: float = PATIENCE_SECONDS) -> "Future[float]":
        """What vLLM's shutdown after SIGTERM does, in a thread; returns once clients are told to leave."""
        waits = ThreadPoolExecutor(1).submit(self.drain.wait, seconds, self.server, lambda: self.alive)
        until(lambda: self.drain.begun)
        return waits


def until(holds: Any) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def served() -> Iterator[Served]:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while scope["path"] == "/slow" and not found.goes_on.is_set():
            await send({"type": "http.response.body", "body": b"token ", "more_body": True})
            await asyncio.sleep(0.01)
        await send({"type": "http.response.body", "body": b"end"})

    counted = Drain()
    config = uvicorn.Config(
        DrainingResponses(application, counted), lifespan="off", log_config=None, timeout_keep_alive=KEEP_ALIVE_SECONDS
    )
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(config)
        found = Served(server, f"http://127.0.0.1:{listening.getsockname()[1]}", counted)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        until(lambda: server.started)
        yield found
        found.goes_on.set()
        server.should_exit = server.force_exit = True
        thread.join()


def test_a_stream_goes_on_and_its_client_may_ask_once_more(served: Served) -> None:
    with httpx.Client(base_url=served.url, timeout=PATIENCE_SECONDS) as client:
        with client.stream("GET", "/slow") as response:
            parts = response.iter_text()
            assert "token" in next(parts)
            over = served.begin()
            served.goes_on.set()
            assert "".join(parts).endswith("end")
        assert "connection" not in response.headers, "its head was sent before the drain began"
        assert not over.done(), "the client may not know yet that it should leave"
        told = client.get("/")
        assert (told.text, told.headers["connection"]) == ("end", "close")
        assert TEARDOWN_SECONDS <= over.result(PATIENCE_SECONDS) <= PATIENCE_SECONDS


def test_without_clients_it_is_over_at_once(served: Served) -> None:
    assert served.begin(3600.0).result(PATIENCE_SECONDS) > 3600.0 - PATIENCE_SECONDS


def test_before_a_drain_nobody_is_told_to_leave(served: Served) -> None:
    assert "connection" not in httpx.get(served.url).headers


def test_when_the_time_is_up_what_is_left_does_not_matter(served: Served) -> None:
    with httpx.stream("GET", f"{served.url}/slow", timeout=PATIENCE_SECONDS) as response:
        next(response.iter_text())
        assert served.begin(0.5).result(PATIENCE_SECONDS) == TEARDOWN_SECONDS
        assert served.drain.active == 1


def test_nobody_waits_for_a_dead_engine(served: Served) -> None:
    with httpx.stream("GET", f"{served.url}/slow", timeout=PATIENCE_SECONDS) as response:
        next(response.iter_text())
        over = served.begin(3600.0)
        served.alive = False
        over.result(PATIENCE_SECONDS)
        assert served.drain.active == 1


def test_a_connection_that_never_asked_holds_nobody_up_nor_do_scrapes(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served.server.config, "timeout_keep_alive", 0)
    host, port = served.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))):
        until(lambda: served.server.server_state.connections)
        over = served.begin(3600.0)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not over.done():
            assert time.monotonic() < deadline
            httpx.get(f"{served.url}/metrics")
        assert over.result() >= TEARDOWN_SECONDS


def test_only_a_thread_without_an_event_loop_may_wait() -> None:
    async def in_a_loop() -> bool:
        return drain.may_block()

    assert drain.may_block()
    assert not asyncio.run(in_a_loop())
