"""The worker of the matrix's engines: a replica of four ranks has both of its degrees, and steps take them in turn."""

import gc
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from shift_engine.compat import collectives, memory
from shift_engine.degree import Degree
from shift_engine.overlay import build_overlay
from shift_engine.worker import Base, ShiftWorker
from torch._subclasses.fake_tensor import FakeTensor
from unpacked_worker import UnpackedShiftWorker, keep_weights


class MatrixWorker(ShiftWorker):
    """One rank."""

    def load_degrees(self, degrees: Sequence[str]) -> None:
        """RPC, collective: further overlays beside the one of the configuration."""
        for text in degrees:
            degree = Degree.parse(text)
            host = self.model_runner.get_model()
            overlay = build_overlay(
                *(self.vllm_config, host, degree),
                share_weights=self._share_weights,
                room=any_room,
                room_for_copy=any_room,
            )
            self._switch.install(overlay)

    def run_in_turn(self, degrees: Sequence[str]) -> None:
        """RPC: the steps from now on run at these degrees, one after the other and again."""
        turns = [Degree.parse(text) for text in degrees]
        self._before = Counter({degree: totals.steps for degree, totals in self._ledger.totals.items()})
        self._sent: list[tuple[int, int, int]] = []

        def wanted(tokens: int) -> Degree:
            self._ledger.step += 1
            return turns[self._ledger.step % len(turns)]

        self._ledger.wanted = wanted

    def degrees_run(self) -> dict[str, int]:
        """RPC -> how many steps ran at each degree since `run_in_turn`."""
        steps = Counter({degree: totals.steps for degree, totals in self._ledger.totals.items()}) - self._before
        return {str(degree): count for degree, count in steps.items()}

    def execute_model(self, scheduler_output: Any) -> Any:
        """A step; noted are its tokens, its requests and the rows that the overlay's ranks sent each other after it."""
        sent, stock_gather = 0, collectives.all_gather_rows

        def gather(own: torch.Tensor, group: Any) -> torch.Tensor:
            nonlocal sent
            rows = stock_gather(own, group)
            sent += len(rows)
            return rows

        collectives.all_gather_rows = gather
        try:
            output = super().execute_model(scheduler_output)
        finally:
            collectives.all_gather_rows = stock_gather
        tokens = scheduler_output.total_num_scheduled_tokens
        if self._serving and tokens:
            self._sent.append((tokens, len(scheduler_output.num_scheduled_tokens), sent))
        return output

    def rows_sent(self) -> list[tuple[int, int, int]]:
        """RPC -> of each step since `run_in_turn` its tokens, its requests and the rows sent after it."""
        return self._sent

    def expert_tensors(self) -> dict[str, Any]:
        """RPC -> where the host's expert weights lie, and every place where a tensor of their shapes lies."""
        experts = [p for name, p in self.model_runner.get_model().named_parameters() if ".experts." in name]
        shapes = {(parameter.shape, parameter.dtype) for parameter in experts}
        alive = [
            each
            for each in gc.get_objects()
            if issubclass(type(each), torch.Tensor) and not issubclass(type(each), FakeTensor)
            if not each.is_meta and (each.shape, each.dtype) in shapes
        ]
        return {
            "of the host": sorted({parameter.untyped_storage().data_ptr() for parameter in experts}),
            "anywhere": sorted({tensor.untyped_storage().data_ptr() for tensor in alive}),
            "overlays": [str(degree) for degree in self._switch._overlays],
            "in overlays": [
                name
                for overlay in self._switch._overlays.values()
                for name, _ in overlay._model.named_parameters()
                if ".experts." in name
            ],
        }


class UnpackedMatrixWorker(MatrixWorker, UnpackedShiftWorker):
    """One rank that keeps its weights as they were loaded."""


class UnpackedStockWorker(Base):
    """One rank of stock vLLM that keeps its weights as they were loaded: packed ones round differently."""

    def load_model(self, **options: Any) -> None:
        keep_weights()
        super().load_model(**options)


def any_room(needed: int) -> None:
    """These models are tiny."""


class PoorWorker(ShiftWorker):
    """One rank that has no memory left beside the host's weights."""

    def load_model(self, **options: Any) -> None:
        memory.free_bytes = lambda: 2**20
        super().load_model(**options)


class UnpackedPoorWorker(PoorWorker, UnpackedShiftWorker):
    """The same, with weights that the overlay's would be gathered from."""
