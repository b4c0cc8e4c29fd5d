"""How an engine ends without cutting a request: after SIGTERM it serves on until its clients have gone elsewhere.

vLLM 0.32 finishes what it has (--shutdown-timeout), but each request that comes after SIGTERM ends with an error 500 or
without a token (v1/engine/core.py, _reject_add_in_shutdown; the renderer's closed executor). And some do come: a pod
that leaves its Service gets no new connection, but a client sends its next request over the one that it kept. So here,
between SIGTERM and vLLM's own shutdown, requests are served as before, and

- each response that begins says `Connection: close`: the client's next request goes to another replica;
- a connection without a request is closed by the server's keep-alive time, as at any other moment;
- once no connection is left, or the time is up, vLLM shuts down, with nothing to lose.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

logger = logging.getLogger("vllm.shift_engine.drain")

POLL_SECONDS = 0.1
# Over the keep-alive time. A connection that never carried a request is closed by nothing: no reason to wait for it.
SLACK_SECONDS = 2.0
# What vLLM has to end its processes where requests took all the time; the pod's grace period has a margin of 15 s.
TEARDOWN_SECONDS = 10.0


@dataclass
class Drain:
    """The requests that are being answered, and whether their clients are told to leave.

    Counted by the event loop of the API server, waited for by a thread. `last_end` is that of the last request that was
    no GET: probes and scrapes go on for ever, and nobody waits for them.
    """

    active: int = 0
    last_end: float = 0.0
    begun: bool = False

    def wait(self, seconds: float, server: Any, alive: Callable[[], bool]) -> float:
        """Block until nobody waits for this engine, at most `seconds`. -> the seconds left for vLLM's shutdown.

        `server` is uvicorn's; `alive` says whether the engine still answers.
        """
        begun = time.monotonic()
        self.begun = True
        self.last_end = max(self.last_end, begun)
        logger.info("drain: %d requests on %d connections, at most %.0f s", self.active, _connections(server), seconds)
        while not (over := self._over(server)) and alive() and time.monotonic() - begun < seconds:
            time.sleep(POLL_SECONDS)
        took = time.monotonic() - begun
        # Not `active` where it is over: a probe may have come since.
        logger.info("drain: %d requests left after %.1f s", 0 if over else self.active, took)
        return max(seconds - took, TEARDOWN_SECONDS)

    def _over(self, server: Any) -> bool:
        if self.active > 0:
            return False
        quiet = time.monotonic() - self.last_end
        return _connections(server) == 0 or quiet > server.config.timeout_keep_alive + SLACK_SECONDS


class DrainingResponses:
    """ASGI middleware around everything that the server answers: counts requests, and tells clients to leave."""

    def __init__(self, app: Any, drain: Drain) -> None:
        self._app = app
        self._drain = drain

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_goodbye(message: Any) -> None:
            if self._drain.begun and message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
            await send(message)

        self._drain.active += 1
        try:
            await self._app(scope, receive, send_with_goodbye)
        finally:
            self._drain.active -= 1
            if scope["method"] != "GET":
                self._drain.last_end = time.monotonic()


def may_block() -> bool:
    """Whether this thread runs no event loop. vLLM shuts its client down from a thread after SIGTERM, and from the loop
    where it could not start or died."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return True
    return False


def _connections(server: Any) -> int:
    return len(server.server_state.connections)
