"""The demo's clients: streamed completions, and a load whose step sizes change from small decodes to long prefills."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp

REQUEST_SECONDS = 120.0
# Above the seeds of all fixed prompts.
FIRST_FRESH_SEED = 1000
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


@dataclass(frozen=True)
class Phase:
    """One kind of traffic: `streams` clients, each of which sends the prompts in turn, one after the other."""

    what: str
    prompts: tuple[Prompt, ...]
    streams: int
    fresh: bool = False
    """Whether each request has words of its own; else the prefix cache makes a repeated prompt a small step."""


def _prompts(words: Iterable[int], max_tokens: int) -> tuple[Prompt, ...]:
    return tuple(Prompt(seed, n, max_tokens) for seed, n in enumerate(words))


# Steps of a few tokens, of dozens to hundreds, and of up to the engine's largest. The middle ones lie on both sides
# of the threshold that the example starts with: wherever the curves cross, the law has something to gain.
PHASES = (
    Phase("small steps: short prompts, long answers", _prompts([8] * 4, max_tokens=48), streams=4),
    Phase(
        "middle steps: prompts of some sentences",
        _prompts((20, 50, 90, 120, 160, 200, 240, 280), 1),
        streams=1,
        fresh=True,
    ),
    Phase("large steps: prompts of some pages", _prompts((400, 550, 800, 1000), 2), streams=2, fresh=True),
)
# What is compared with stock vLLM, token by token: a decode, a prefill, and long prompts that go on to decode, so that
# a request is prefilled in one mode and decoded in the other.
COMPARED = (
    Prompt(17, words=8, max_tokens=48),
    Prompt(18, words=1000, max_tokens=2),
    Prompt(20, words=600, max_tokens=24),
    Prompt(21, words=350, max_tokens=32),
)


@dataclass
class Tally:
    """What the clients saw."""

    requests: int = 0
    tokens: int = 0
    failures: list[str] = field(default_factory=list)
    answers: dict[Prompt, list[list[int]]] = field(default_factory=dict)
    fresh_seeds: Iterator[int] = field(default_factory=lambda: itertools.count(FIRST_FRESH_SEED))

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


async def load(
    client: Client, tally: Tally, *, seconds: float, phase_seconds: float, shown: Callable[[str], None]
) -> None:
    """Go through the phases for `seconds`, again and again; each failed request is counted, none stops the load."""
    ends = time.monotonic() + seconds
    for phase in itertools.cycle(PHASES):
        if time.monotonic() >= ends:
            return
        shown(f"load, {phase.what} ({tally.requests} requests so far)")
        phase_ends = min(ends, time.monotonic() + phase_seconds)
        await asyncio.gather(*(_stream_of(client, tally, phase, first, phase_ends) for first in range(phase.streams)))


async def _stream_of(client: Client, tally: Tally, phase: Phase, first: int, ends: float) -> None:
    for turn in itertools.count(first):
        if time.monotonic() >= ends:
            return
        prompt = phase.prompts[turn % len(phase.prompts)]
        await ask(client, tally, replace(prompt, seed=next(tally.fresh_seeds)) if phase.fresh else prompt)


async def ask(client: Client, tally: Tally, prompt: Prompt) -> None:
    try:
        tally.answered(prompt, await client.complete(prompt))
    except (aiohttp.ClientError, TimeoutError) as error:
        tally.failed(f"{type(error).__name__}: {error}")
