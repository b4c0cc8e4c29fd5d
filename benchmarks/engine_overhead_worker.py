"""The worker of engine_overhead.py: times a step with and without the shift engine's part. Imported by the ranks."""

import statistics
import time
from typing import Any

from shift_engine.worker import Base, ShiftWorker


class _TimedBase(Base):  # type: ignore[misc, valid-type, unused-ignore]
    """Stands between the shift engine's worker and the platform's own."""

    inner = 0.0  # CPU seconds of the last step without the shift engine's part

    def execute_model(self, scheduler_output: Any) -> Any:
        began = time.thread_time()
        output = super().execute_model(scheduler_output)
        self.inner = time.thread_time() - began
        return output


class TimedShiftWorker(ShiftWorker, _TimedBase):
    """One rank."""

    def begin(self, stock: bool = False) -> None:
        """RPC: forget the steps so far. With `stock` the next ones have no part of the shift engine's, so that what is
        measured is the timers' own."""
        self._run = _TimedBase.execute_model if stock else ShiftWorker.execute_model
        self._steps: list[tuple[float, float]] = []
        self._folds: list[float] = []
        self._stats: list[float] = []
        ledger: Any = self._ledger
        fold = type(ledger).fold

        def timed_fold() -> None:
            began = time.thread_time()
            fold(ledger)
            self._folds.append(time.thread_time() - began)

        ledger.fold = timed_fold

    def execute_model(self, scheduler_output: Any) -> Any:
        """A step, timed."""
        if not self._serving:
            return super().execute_model(scheduler_output)
        began = time.thread_time()
        output = self._run(self, scheduler_output)
        whole = time.thread_time() - began
        if scheduler_output.total_num_scheduled_tokens > 0:
            self._steps.append((whole, whole - self.inner))
        return output

    def figures(self) -> dict[str, float]:
        """RPC -> of the steps since `begin`, in CPU seconds: the median step, the median of what is not stock vLLM's in
        it, and per step what one in so many takes to count them all."""
        wholes, parts = zip(*self._steps, strict=True)
        return {
            "steps": len(wholes),
            "step": statistics.median(wholes),
            "own": statistics.median(parts),
            "folding": sum(self._folds) / len(wholes),
        }

    def shift_stats(self) -> dict[str, Any]:
        """As the shift engine's, timed."""
        began = time.thread_time()
        answer: dict[str, Any] = super().shift_stats()
        self._stats.append(time.thread_time() - began)
        return answer

    def stats_seconds(self) -> float:
        """RPC -> the median CPU seconds of `shift_stats`."""
        return statistics.median(self._stats)
