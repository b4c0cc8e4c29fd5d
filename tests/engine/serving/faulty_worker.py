"""Workers whose overlays are not right: 2x2 computes something else, and 4x1 does not run; or one rank fails alone."""

from typing import Any

import torch
from shift_engine.degree import Degree
from shift_engine.trial_steps import TrialSteps
from shift_engine.worker import ShiftWorker


class FaultySteps(TrialSteps):
    """Of one rank."""

    is_first_rank = False

    def dummy(self, degree: Degree, tokens: int) -> torch.Tensor:
        hidden = super().dummy(degree, tokens)
        if degree == Degree(4, 1) and self.is_first_rank:
            raise RuntimeError("no kernel for this GPU")
        return -hidden if degree == Degree(2, 2) else hidden


class LonelySteps(TrialSteps):
    """The first rank leaves a step of 2x1 before its collectives, in which the other then waits for it."""

    is_first_rank = False

    def dummy(self, degree: Degree, tokens: int) -> torch.Tensor:
        if degree == Degree(2, 1) and self.is_first_rank:
            raise RuntimeError("out of memory, on this rank alone")
        return super().dummy(degree, tokens)


class FaultyShiftWorker(ShiftWorker):
    """One rank."""

    steps: type[FaultySteps] | type[LonelySteps] = FaultySteps

    def load_model(self, **options: Any) -> None:
        super().load_model(**options)
        self._trial.__class__ = self.steps
        self._trial.is_first_rank = self.rank == 0


class LonelyShiftWorker(FaultyShiftWorker):
    """One rank."""

    steps = LonelySteps
