"""A worker on CPU that keeps its weights as they were loaded, as GPUs do; vLLM's own packs them and drops the rest."""

from typing import Any

import torch
from shift_engine.worker import ShiftWorker
from vllm.model_executor.layers import utils


def keep(layer: Any, remove_weight: bool) -> None:
    """In place of vLLM's packing: the layer's weight is read where it lies, with any leading dimension."""
    layer.cpu_linear = torch.nn.functional.linear


def keep_weights() -> None:
    """From now on in this process."""
    utils.dispatch_cpu_unquantized_gemm = keep


class UnpackedShiftWorker(ShiftWorker):
    """One rank."""

    def load_model(self, **options: Any) -> None:
        keep_weights()
        super().load_model(**options)
