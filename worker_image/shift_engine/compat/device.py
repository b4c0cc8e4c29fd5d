"""vLLM 0.32's platform: the worker that ours extends, and how work reaches the device."""

from collections.abc import Sequence
from typing import Any

import numpy
import torch
from vllm.platforms import current_platform
from vllm.utils.torch_utils import async_tensor_h2d
from vllm.utils.torch_utils import current_stream as current_stream  # without the cost of torch's own


def base_worker() -> Any:
    """The platform's own worker class, which ours extends."""
    if current_platform.is_cpu():
        from vllm.v1.worker.cpu_worker import CPUWorker

        return CPUWorker
    from vllm.v1.worker.gpu_worker import Worker

    return Worker


def on_device(arrays: Sequence[Any], device: torch.device) -> list[torch.Tensor]:
    """Arrays of one type, in one copy that nothing waits for."""
    whole = async_tensor_h2d(numpy.concatenate(arrays), device=device)
    return [*whole.split([len(array) for array in arrays])]
