"""Whether an overlay computes what its host computes, judged by the hidden states of the same tokens. Pure.

A wrong head, position or row makes a token's hidden state another vector: about sqrt(2) of its length away, at least 1.
Rounding leaves it near, but how near depends on the format: under 1 x P a rank scales its part of a row of activations
to 8 bits, under SP x 1 the whole row, and each layer adds to the difference. So the distance is taken token by token,
where one wrong row cannot hide among many right ones, and its bound is the format's.

With experts rounding can also make a router choose another expert where two are nearly level, and that token's hidden
state is then far away, though nothing is wrong. So the farthest token may be as far as no fault leaves it, and the
median token, which few such choices move, has a bound of its own.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

# TP=2 against one GPU in the small random models of test_the_self_check_tells_rounding_from_faults.py, with 4 and 8
# layers: fp32 1e-6, bf16 0.03 and 0.04, int8 0.08 and 0.14, fp8 0.21 and 0.35. Faults: 1.0 to 1.5 in all of them.
FULL_PRECISION = 1e-2  # attention of float32 on GPUs rounds its products to TF32, 5e-4 each
SIXTEEN_BITS = 0.25
QUANTISED = 0.75
# With 8 experts and random routers, the hardest to agree with: the farthest token TF32 0.001, bf16 0.5 and 0.7, int8
# and fp8 0.75 to 0.85; the median TF32 0.0005 and 0.001, bf16 0.13 and 0.3, int8 and fp8 0.2 to 0.45.
FARTHEST_WITH_EXPERTS = 0.95
MEDIAN_WITH_EXPERTS = 0.6  # of 16 bits and less


@dataclass(frozen=True)
class Distance:
    """|overlay - host| / |host| of a token's hidden state: of the farthest token, and of the median one."""

    farthest: float
    median: float

    def is_within(self, bound: "Distance") -> bool:
        """False also where a number is NaN."""
        return self.farthest <= bound.farthest and self.median <= bound.median

    def __str__(self) -> str:
        return f"{self.farthest:.1e} ({self.median:.1e} in the median)"


def tolerance(dtype: torch.dtype, *, is_quantised: bool, has_experts: bool) -> Distance:
    """The largest `distance` that is rounding, of a model whose activations are `dtype`."""
    dense = QUANTISED if is_quantised else FULL_PRECISION if dtype == torch.float32 else SIXTEEN_BITS
    if not has_experts:
        return Distance(dense, dense)
    return Distance(FARTHEST_WITH_EXPERTS, dense if dense == FULL_PRECISION else MEDIAN_WITH_EXPERTS)


def distance(host: Tensor, overlay: Tensor) -> Distance:
    """[n, d] and [n, d] -> their distance; inf where a number is NaN.

    Nothing of float32 is made but [n]: the largest graph's hidden states are hundreds of MiB beside a full KV cache.
    """
    apart, length = (torch.linalg.vector_norm(rows, dim=1, dtype=torch.float32) for rows in (overlay - host, host))
    of_tokens = (apart / length.clamp_min(1e-6)).nan_to_num(nan=torch.inf)
    return Distance(float(of_tokens.max()), float(of_tokens.median()))
