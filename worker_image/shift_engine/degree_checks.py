"""Whether a degree computes what 1 x P does: the same hidden states, and each reads the KV cache that the other wrote.

Checks are made before they are run, so that all ranks run the same ones, whatever one of them finds.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from torch import Tensor

from .degree import Degree
from .self_check import Distance, distance
from .trial_steps import TrialSteps

CHECKED_TOKENS = 61  # odd, so that every degree pads

Check: TypeAlias = Callable[[], str | None]  # collective; -> what this rank found wrong; may raise
Run: TypeAlias = Callable[[], Tensor]  # collective; -> hidden states [n, d]


@dataclass(frozen=True)
class DegreeChecks:
    """Of one replica's degrees."""

    steps: TrialSteps
    full: Degree  # 1 x P, what the others are compared with
    rounding: Distance  # what may lie between two ways to compute the same
    largest_step: int  # tokens
    longest_prompt: int  # tokens, of a prompt and what follows it

    def at_start(self, degree: Degree, largest_graph: int | None) -> list[Check]:
        """Prompts over one KV cache, prefilled and decoded at this degree, at either, and up to its largest graph."""
        first, *more = self._prefills(largest_graph)
        return [
            self._of_prompt(tokens, prefilled, decoded)
            for tokens, prefilled, decoded in (
                *((first, degree, degree), (first, self.full, degree), (first, degree, self.full)),
                *((tokens, degree, degree) for tokens in more),
            )
        ]

    def without_cache(self, degree: Degree) -> list[Check]:
        """A step that leaves the KV cache alone: what attention adds is then zero at both degrees."""
        [tokens] = self._prefills(None)
        runs = [partial(self.steps.dummy, each, tokens) for each in (self.full, degree)]
        return [partial(self._compare, f"{self.full} and {degree}", *runs)]

    def while_serving(self, degree: Degree) -> list[Check]:
        """The cache is the requests' then. And the largest step is run once, since vLLM did not profile memory with
        this degree: it raises where its activations do not fit, before requests need them."""
        return [*self.without_cache(degree), partial(self._run_largest, degree)]

    def of_whole_graphs(self, in_pieces: Callable[[], AbstractContextManager[None]], largest_graph: int) -> list[Check]:
        """Whole graphs of 1 x P with prefills, beside stock vLLM's, which run within `in_pieces()`."""

        def stock(tokens: int) -> Tensor:
            with in_pieces():
                return self.steps.prompt(self.full, self.full, tokens)

        whole = partial(self.steps.prompt, self.full, self.full)
        what = f"graphs of the whole and of pieces of {self.full}"
        return [
            partial(self._compare, what, partial(stock, tokens), partial(whole, tokens))
            for tokens in self._prefills(largest_graph)
        ]

    def _of_prompt(self, tokens: int, prefilled: Degree, decoded: Degree) -> Check:
        runs = [partial(self.steps.prompt, *each, tokens) for each in ((self.full, self.full), (prefilled, decoded))]
        return partial(self._compare, f"{self.full} and prefill at {prefilled}, decode at {decoded}", *runs)

    def _prefills(self, largest_graph: int | None) -> list[int]:
        """Tokens: a number that every degree pads, and one less than the largest graph has."""
        most = min(self.largest_step, self.longest_prompt - 2)  # two tokens follow it
        sizes = (CHECKED_TOKENS, *(() if largest_graph is None else (largest_graph - 1,)))
        return [min(size, most) for size in sizes]

    def _compare(self, what: str, one: Run, other: Run) -> str | None:
        found = distance(one(), other())
        if found.is_within(self.rounding):
            return None
        return (
            f"the self-check failed: a token's hidden state differs by {found} of its length between {what}, "
            f"where rounding explains {self.rounding}"
        )

    def _run_largest(self, degree: Degree) -> None:
        self.steps.seconds(degree, self.largest_step)
