"""Workers whose overlays are not right: 2x2 computes something else, and 4x1 does not run; or one rank fails alone."""

from typing import Any

import torch
from shift_engine.degree import Degree
from shift_engine.worker import ShiftWorker


class FaultyShiftWorker(ShiftWorker):
    """One rank."""

    def load_model(self, **options: Any) -> None:
        super().load_model(**options)
        trial: Any = self._trial
        right = trial.dummy

        def dummy(degree: Degree, tokens: int) -> torch.Tensor:
            hidden: torch.Tensor = right(degree, tokens)
            if degree == Degree(4, 1) and self.rank == 0:
                raise RuntimeError("no kernel for this GPU")
            return -hidden if degree == Degree(2, 2) else hidden

        trial.dummy = dummy


class LonelyShiftWorker(ShiftWorker):
    """One rank. The first leaves a step of 2x1 before its collectives, in which the other then waits for it."""

    def load_model(self, **options: Any) -> None:
        super().load_model(**options)
        trial: Any = self._trial
        right = trial.dummy

        def dummy(degree: Degree, tokens: int) -> torch.Tensor:
            if degree == Degree(2, 1) and self.rank == 0:
                raise RuntimeError("out of memory, on this rank alone")
            hidden: torch.Tensor = right(degree, tokens)
            return hidden

        trial.dummy = dummy
