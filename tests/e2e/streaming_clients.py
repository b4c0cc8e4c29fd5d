"""Clients that stream completions one after the other over kept connections, and never try a request again: whatever
is cut or refused is seen."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from demo.traffic import FIRST_FRESH_SEED, Client, Prompt, Tally, ask

# A client that waits longer than this for the next token has lost its stream. Far above what a busy machine takes.
SILENCE_SECONDS = 240.0
# A server may close a connection that idles at the moment when a client sends over it; no server can help that. vLLM
# does so after 5 s, which on a machine with more work than cores a client's pause of one second can last.
KEEP_ALIVE = {"name": "VLLM_HTTP_TIMEOUT_KEEP_ALIVE", "value": "60"}
# Between two requests of a client: its connection stays open and idle, and an engine that starts gets its share of the
# CPU. Far shorter than the server's keep-alive time, after which a request could meet a connection that is closing.
PAUSE_SECONDS = 1.0


@dataclass
class StreamingClients:
    """`count` clients of one Service. Each has one request at a time; the next one goes over a kept connection."""

    url: str
    model: str
    count: int
    tokens: int
    pause_seconds: float = PAUSE_SECONDS
    failures: list[str] = field(default_factory=list)
    _served: list[int] = field(default_factory=list)

    @property
    def answered(self) -> int:
        """Requests that were answered, by all clients."""
        return sum(self._served)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The clients work inside and finish the request that they have at the end."""
        ends = asyncio.Event()
        self._served = [0] * self.count
        clients = [asyncio.create_task(self._work(number, ends)) for number in range(self.count)]
        try:
            yield
        finally:
            ends.set()
            await asyncio.gather(*clients)

    async def each_answered_anew(self, within: float) -> None:
        """Until each client has had a request answered that it began after this call, or one failed."""
        begun = list(self._served)
        async with asyncio.timeout(within):
            while not all(now >= before + 2 for now, before in zip(self._served, begun, strict=True)):
                assert self.failures == []
                await asyncio.sleep(0.1)

    async def _work(self, number: int, ends: asyncio.Event) -> None:
        """One client. Its session is its own: one of a shared pool's connections could be idle for any time."""
        async with aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=None, sock_read=SILENCE_SECONDS)
        ) as session:
            while not ends.is_set():
                try:
                    tokens = await self._stream(session, f"client {number} counts")
                except (aiohttp.ClientError, TimeoutError, OSError) as error:
                    self.failures.append(f"client {number}: {type(error).__name__}: {error}")
                else:
                    self._served[number] += 1
                    if tokens != self.tokens:
                        self.failures.append(f"client {number}: {tokens} of {self.tokens} tokens came")
                await asyncio.sleep(self.pause_seconds)

    async def _stream(self, session: aiohttp.ClientSession, prompt: str) -> int:
        """The tokens that came. Reads to the end of the answer, so that the connection goes back to the pool."""
        body: dict[str, Any] = {"model": self.model, "prompt": prompt, "max_tokens": self.tokens, "ignore_eos": True}
        body |= {"stream": True, "stream_options": {"include_usage": True}, "temperature": 0}
        tokens, done = 0, False
        async with session.post(f"{self.url}/v1/completions", json=body) as response:
            if response.status != 200:
                raise aiohttp.ClientError(f"{response.status} {(await response.text())[:300]}")
            async for raw in response.content:
                line = raw.decode().strip()
                if line == "data: [DONE]":
                    done = True
                elif line.startswith("data: "):
                    event = json.loads(line.removeprefix("data: "))
                    if "error" in event:
                        raise aiohttp.ClientError(f"in the stream: {event['error']}")
                    tokens = (event.get("usage") or {}).get("completion_tokens", tokens)
        if not done:
            raise aiohttp.ClientError("the stream ended without [DONE]")
        return tokens


@contextlib.asynccontextmanager
async def prefilling(client: Client, tally: Tally, lengths: Sequence[int]) -> AsyncIterator[None]:
    """Inside, one prompt after the other, of so many words each in turn, and words of its own."""

    async def ask_all() -> None:
        for seed, words in zip(itertools.count(FIRST_FRESH_SEED), itertools.cycle(lengths), strict=False):
            await ask(client, tally, Prompt(seed, words, max_tokens=1))

    asking = asyncio.create_task(ask_all())
    try:
        yield
    finally:
        asking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asking
