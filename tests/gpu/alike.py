"""How near two engines' answers to the same prompts are, and how near rounding leaves them. Pure."""

import math
from collections.abc import Iterator
from itertools import cycle
from typing import Any, NamedTuple

Said = dict[str, Any]  # of one phase: tokens and log-probabilities by prompt, what the ranks counted


class Pair(NamedTuple):
    """Two answers to one prompt."""

    tokens: list[int]
    stock_tokens: list[int]
    logprobs: list[float]
    stock_logprobs: list[float]

    @property
    def equal(self) -> int:
        """How many tokens are the same, up to the first that is not."""
        both = zip(self.tokens, self.stock_tokens, strict=False)
        return next((i for i, (a, b) in enumerate(both) if a != b), min(len(self.tokens), len(self.stock_tokens)))

    @property
    def is_same(self) -> bool:
        """Are all tokens."""
        return self.tokens == self.stock_tokens

    @property
    def is_identical(self) -> bool:
        """Are all log-probabilities too, bit for bit."""
        return self.is_same and self.logprobs == self.stock_logprobs

    @property
    def compared(self) -> int:
        """Tokens with the same ones before them."""
        return len(self.tokens) if self.is_same else self.equal + 1

    def apart(self, tokens: int) -> float:
        """By how much the log-probabilities of the first so many tokens differ at most; inf where one is no number."""
        both = [*zip(self.logprobs, self.stock_logprobs, strict=False)][:tokens]
        return max((distance(ours, theirs) for ours, theirs in both), default=0.0)


def distance(one: float, other: float) -> float:
    """inf where one of them is no number."""
    return abs(one - other) if math.isfinite(one) and math.isfinite(other) else math.inf


def pairs(said: Said, stock: Said) -> list[Pair]:
    """One for each answer of `said`, whose prompts may be those of `stock` again and again."""
    theirs = zip(cycle(stock["tokens"]), cycle(stock["logprobs"]), strict=False)
    ours = zip(said["tokens"], said["logprobs"], strict=True)
    return [Pair(ours[0], theirs[0], ours[1], theirs[1]) for ours, theirs in zip(ours, theirs, strict=False)]


class Rounding(NamedTuple):
    """How far it takes answers from stock vLLM's. Beside it, what was seen on two H200 in good runs at most."""

    turned: float
    """Of the tokens whose forerunners are the same, the share that is another one."""
    first: float
    """Of the prompts, the share whose first token must be the same."""
    least: float
    """Of each answer, the share that must come before a token that differs."""
    apart: float
    """Between log-probabilities. Also of the first tokens that differ: each is the largest of its engine, and a largest
    number moves by no more than some number does."""

    def explains(self, answers: list[Pair]) -> Iterator[str]:
        """-> a sentence for each thing that it does not explain."""
        turned = sum(not pair.is_same for pair in answers) / sum(pair.compared for pair in answers)
        if turned > self.turned:
            yield f"{turned:.1%} of the tokens are not stock vLLM's, where rounding turns {self.turned:.0%}"
        first = sum(pair.equal > 0 for pair in answers)
        if first < self.first * len(answers):
            yield f"{first} of {len(answers)} answers begin as stock vLLM's, where rounding leaves {self.first:.0%}"
        least = min(pair.equal / len(pair.tokens) for pair in answers)
        if least < self.least:
            yield f"an answer differs after {least:.0%} of its tokens, where rounding leaves {self.least:.0%}"
        apart = max(pair.apart(pair.compared) for pair in answers)
        if apart > self.apart:
            yield (
                f"log-probabilities are up to {apart:.1e} apart up to the first token that differs, "
                f"where rounding explains {self.apart:.1e}"
            )


# Attention of float32 on GPUs rounds its products to TF32, so a token turns where two are within 0.002: seen in one
# answer of eight, in its 23rd token of 24, before the prompts were chosen by how far a token leads (batches.LEAD). With
# experts rounding decides which one a router chooses where two are nearly level. Two answers of other tokens are the
# same by chance never: there are 500 tokens.
FLOAT32 = Rounding(turned=0.01, first=1.0, least=0.8, apart=5e-3)  # 0.006, 1, 0.92, 0.0016
FLOAT32_WITH_EXPERTS = FLOAT32._replace(apart=1e-2)  # 0, 1, 1, 0.004
BFLOAT16 = Rounding(turned=0.1, first=0.7, least=0.0, apart=0.15)  # 0.044, 7 of 8, 0, 0.1
BFLOAT16_WITH_EXPERTS = BFLOAT16._replace(apart=0.8)  # 0.037, 1, 0.4, 0.34; in another run 0.51
IN_FP8 = Rounding(turned=0.45, first=0.5, least=0.0, apart=1.0)  # 0.29, 6 of 8, 0, 0.46; stock TP=2 and TP=1 0.27
