"""Steps that nobody asked for, run by all ranks together, by which a degree is checked and timed."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor

from .compat import dummy_steps
from .degree import Degree
from .forward import ForwardSwitch


class TrialSteps:
    """Every method is collective, and leaves the switch as the host's own."""

    def __init__(self, runner: Any, switch: ForwardSwitch, synchronize: Callable[[], None], *, v2: bool) -> None:
        """`runner`: vLLM's model runner, V2 or not; `synchronize` waits for the device."""
        self._runner, self._switch, self._synchronize, self._v2 = runner, switch, synchronize, v2

    def dummy(self, degree: Degree, tokens: int) -> Tensor:
        """A step that neither reads nor writes the KV cache. -> hidden states [n, d]."""
        self._switch.arm(degree)
        try:
            return dummy_steps.dummy_step(self._runner, tokens, v2=self._v2)
        finally:
            self._switch.disarm()

    def seconds(self, degree: Degree, tokens: int) -> float:
        """Of such a step, on this rank."""
        began = time.perf_counter()
        self.dummy(degree, tokens)
        self._synchronize()
        return time.perf_counter() - began

    def prompt(self, prefill: Degree, decode: Degree, tokens: int) -> Tensor:
        """Before serving, V2 alone: a prompt's prefill and a decode after it, each at its degree, over one KV cache.
        -> hidden states [n + 1, d]."""
        self._switch.arm(prefill)
        try:
            return dummy_steps.prefill_and_decode(self._runner, tokens, partial(self._switch.arm, decode))
        finally:
            self._switch.disarm()
