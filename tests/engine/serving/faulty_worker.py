"""Workers whose overlays are not right: 2x2 computes something else, and 4x1 does not run; or one rank fails alone."""

import torch
from shift_engine.degree import Degree
from shift_engine.worker import ShiftWorker


class FaultyShiftWorker(ShiftWorker):
    """One rank."""

    def _dummy_step(self, degree: Degree, tokens: int) -> torch.Tensor:
        hidden = super()._dummy_step(degree, tokens)
        if degree == Degree(4, 1) and self.rank == 0:
            raise RuntimeError("no kernel for this GPU")
        return -hidden if degree == Degree(2, 2) else hidden


class LonelyShiftWorker(ShiftWorker):
    """One rank. The first leaves a step of 2x1 before its collectives, in which the other then waits for it."""

    def _dummy_step(self, degree: Degree, tokens: int) -> torch.Tensor:
        if degree == Degree(2, 1) and self.rank == 0:
            raise RuntimeError("out of memory, on this rank alone")
        return super()._dummy_step(degree, tokens)
