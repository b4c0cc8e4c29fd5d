"""The demo's clients: streamed completions, and a load whose step sizes change from small decodes to long prefills."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp

REQUEST_SECONDS = 120.0
# How many requests a phase keeps in flight; few, so that a step is often one prompt alone and its size is the prompt's.
STREAMS = 4
# The words the tiny model's prompts are made of; what they say does not matter, how many there are does.
WORDS = (
    *("shift", "tensor", "sequence", "parallel", "degree", "step", "token", "batch"),
    *("prefill", "decode", "cache", "replica", "rollout", "drain", "cluster", "node"),
)


@dataclass(frozen=True)
class Prompt:
    """One greedy request: `words` words of prompt, `max_tokens` tokens of answer. One seed, one prompt."""

    seed: int
    words: int
    max_tokens: int

    @property
    def text(self) -> str:
        chosen = random.Random(self.seed)
        return " ".join(chosen.choice(WORDS) for _ in range(self.words))


# Small steps: a few short prompts that decode side by side. Large steps: prompts of every length that answer briefly,
# so that there are steps on both sides of any threshold and the law has something to weigh.
DECODES = tuple(Prompt(seed, words=8, max_tokens=48) for seed in range(4))
PREFILLS = tuple(
    Prompt(seed, words=words, max_tokens=2)
    for seed, words in enumerate((20, 45, 80, 130, 200, 280, 380, 500, 650, 800, 1000), start=40)
)
# What is compared with stock vLLM, token by token: a decode, a prefill, and long prompts that go on to decode, so that
# a request is prefilled in one mode and decoded in the other.
COMPARED = (DECODES[0], PREFILLS[-1], Prompt(20, words=600, max_tokens=24), Prompt(21, words=350, max_tokens=32))


@dataclass
class Tally:
    """What the clients saw."""

    requests: int = 0
    tokens: int = 0
    failures: list[str] = field(default_factory=list)
    answers: dict[Prompt, list[list[int]]] = field(default_factory=dict)

    def answered(self, prompt: Prompt, token_ids: list[int]) -> None:
        self.requests += 1
        self.tokens += len(token_ids)
        self.answers.setdefault(prompt, []).append(token_ids)

    def failed(self, why: str) -> None:
        self.requests += 1
        self.failures.append(why)


class Client:
    """An OpenAI-style client of one served model, always greedy, always streaming."""

    def __init__(self, url: str, model: str) -> None:
        self._url = url
        self._model = model
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=REQUEST_SECONDS))

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._session.close()

    async def complete(self, prompt: Prompt) -> list[int]:
        """The token ids of one completion."""
        body = {"prompt": prompt.text, "max_tokens": prompt.max_tokens, "ignore_eos": True, "return_token_ids": True}
        token_ids: list[int] = []
        async for event in self._stream("/v1/completions", body):
            for choice in event.get("choices", []):
                token_ids += choice.get("token_ids") or []
        if len(token_ids) != prompt.max_tokens:
            raise aiohttp.ClientError(f"a completion of {prompt.max_tokens} tokens ended after {len(token_ids)}")
        return token_ids

    async def completion_text(self, text: str, max_tokens: int) -> AsyncIterator[str]:
        async for event in self._stream("/v1/completions", {"prompt": text, "max_tokens": max_tokens}):
            for choice in event.get("choices", []):
                yield choice.get("text") or ""

    async def chat_text(self, text: str, max_tokens: int) -> AsyncIterator[str]:
        body = {"messages": [{"role": "user", "content": text}], "max_tokens": max_tokens}
        async for event in self._stream("/v1/chat/completions", body):
            for choice in event.get("choices", []):
                yield choice.get("delta", {}).get("content") or ""

    async def _stream(self, path: str, body: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        request = {"model": self._model, "temperature": 0, "stream": True, **body}
        async with self._session.post(self._url + path, json=request) as response:
            if response.status != 200:
                raise aiohttp.ClientError(f"POST {path}: {response.status} {(await response.text())[:200]}")
            async for raw in response.content:
                line = raw.decode().strip()
                if line == "data: [DONE]":
                    return
                if line.startswith("data: "):
                    yield json.loads(line.removeprefix("data: "))
        raise aiohttp.ClientError(f"POST {path}: the stream ended without [DONE]")


async def load(client: Client, tally: Tally, *, seconds: float, phase_seconds: float, shown: Any) -> None:
    """Alternate phases of small and large steps for `seconds`; each failed request is counted, none stops the load."""
    ends = time.monotonic() + seconds
    phases = (
        ("small steps: short prompts, long answers", DECODES),
        ("large steps: long prompts, short answers", PREFILLS),
    )
    turn = 0
    while time.monotonic() < ends:
        what, prompts = phases[turn % len(phases)]
        turn += 1
        shown(f"load, {what} ({tally.requests} requests so far)")
        phase_ends = min(ends, time.monotonic() + phase_seconds)
        starts = range(0, len(prompts), len(prompts) // STREAMS or 1)
        await asyncio.gather(*(_repeat(client, tally, prompts, start, phase_ends) for start in starts))


async def _repeat(client: Client, tally: Tally, prompts: Sequence[Prompt], start: int, ends: float) -> None:
    turn = start
    while time.monotonic() < ends:
        await ask(client, tally, prompts[turn % len(prompts)])
        turn += 1


async def ask(client: Client, tally: Tally, prompt: Prompt) -> None:
    try:
        tally.answered(prompt, await client.complete(prompt))
    except (aiohttp.ClientError, TimeoutError) as error:
        tally.failed(f"{type(error).__name__}: {error}")
