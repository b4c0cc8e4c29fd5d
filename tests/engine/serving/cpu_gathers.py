"""What vLLM 0.32 on CPU lacks to run data parallelism with experts, as a plugin of vLLM's: its communicator for CPU has
no gather and no scatter of unequal parts (distributed/device_communicators/cpu_communicator.py)."""

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist


def install() -> None:
    """vLLM calls it in each of its processes."""
    from vllm.distributed.device_communicators.cpu_communicator import CpuCommunicator

    CpuCommunicator.all_gatherv = all_gatherv
    CpuCommunicator.reduce_scatterv = reduce_scatterv


def write_plugin(directory: Path) -> None:
    """An installed distribution, as far as Python asks for its entry points, for a PYTHONPATH."""
    found = directory / "cpu_gathers-1.dist-info"
    found.mkdir()
    (found / "METADATA").write_text("Metadata-Version: 2.1\nName: cpu_gathers\nVersion: 1\n")
    (found / "entry_points.txt").write_text("[vllm.general_plugins]\ncpu_gathers = cpu_gathers:install\n")


def all_gatherv(
    self: Any, shards: torch.Tensor | list[torch.Tensor], dim: int = 0, sizes: list[int] | None = None
) -> Any:
    """Collective. This rank's rows, `sizes` of all ranks -> everyone's, in the order of the ranks."""
    if isinstance(shards, list):
        return [all_gatherv(self, shard, dim, sizes) for shard in shards]
    assert dim == 0
    sizes = sizes or [len(shards)] * self.world_size
    padded = shards.new_zeros((max(sizes), *shards.shape[1:]))  # gloo gathers equal parts alone
    padded[: len(shards)] = shards
    gathered = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(gathered, padded, group=self.device_group)
    return torch.cat([part[:size] for part, size in zip(gathered, sizes, strict=True)])


def reduce_scatterv(self: Any, rows: torch.Tensor, dim: int = -1, sizes: list[int] | None = None) -> torch.Tensor:
    """Collective. Everyone's rows -> this rank's, summed over the ranks."""
    total = rows.clone()
    dist.all_reduce(total, group=self.device_group)
    return total.split(sizes or len(rows) // self.world_size)[self.rank_in_group].contiguous()
