"""Where heads lie: pure arithmetic of the all-to-all, and the reason where a degree cannot be had."""

from dataclasses import dataclass

from .degree import Degree


@dataclass(frozen=True)
class HeadPlacement:
    """Heads of one layer, per rank. `base_*` is what a rank of the overlay projects for its own rows (1 / tensor of all
    heads); `host_*` is what it attends over for all rows (1 / P of all heads, the shape of the KV cache)."""

    sequence: int
    base_query: int
    base_kv: int
    host_query: int
    host_kv: int

    def kv_slice(self, sequence_rank: int) -> slice:
        """The base KV heads that `sequence_rank` of the group needs.

        With fewer KV heads than ranks a head goes to several of them: rank r of P holds head r * k // P, as vLLM's
        QKVParallelLinear replicates it under 1 x P.
        """
        first = sequence_rank * self.base_kv // self.sequence
        return slice(first, first + self.host_kv)


def place_heads(query_heads: int, kv_heads: int, degree: Degree) -> HeadPlacement:
    """The placement of a model with so many heads in all. Raises ValueError with the rule that is broken."""
    gpus = degree.gpus
    if query_heads % gpus:
        raise ValueError(f"{query_heads} query heads do not divide by {gpus} GPUs")
    for ranks in (gpus, degree.tensor):
        if kv_heads % ranks and ranks % kv_heads:
            raise ValueError(f"{kv_heads} KV heads and {ranks} ranks: one must divide by the other")
    return HeadPlacement(
        sequence=degree.sequence,
        base_query=query_heads // degree.tensor,
        base_kv=max(1, kv_heads // degree.tensor),
        host_query=query_heads // gpus,
        host_kv=max(1, kv_heads // gpus),
    )
