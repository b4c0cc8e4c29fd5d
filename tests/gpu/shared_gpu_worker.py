"""Several ranks on one GPU: right for correctness, not for speed (NCCL 2.30+, NCCL_MULTI_RANK_GPU_ENABLE=1)."""

from typing import Any

from shift_engine.worker import ShiftWorker
from vllm.v1.worker.gpu_worker import Worker


class SharedGpuShiftWorker(ShiftWorker):
    """Every rank takes the first GPU."""

    def init_device(self) -> Any:
        self.local_rank = 0
        return super().init_device()

    def shift_stats(self) -> dict[str, Any]:
        """A step is counted once its time is known: without waiting the last one of a phase would be the next one's."""
        self.synchronize_device()
        return super().shift_stats()


class SharedGpuWorker(Worker):
    """Stock vLLM's worker, likewise: what is compared with."""

    def init_device(self) -> Any:
        self.local_rank = 0
        return super().init_device()
