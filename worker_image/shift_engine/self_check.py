"""Whether an overlay computes what its host computes, judged by the hidden states of the same tokens. Pure.

A wrong head, position or row makes a token's hidden state another vector: about sqrt(2) of its length away, at least 1.
Rounding leaves it near, but how near depends on the format: under 1 x P a rank scales its part of a row of activations
to 8 bits, under SP x 1 the whole row, and each layer adds to the difference. So the distance is taken token by token,
where one wrong row cannot hide among many right ones, and its bound is the format's.
"""

import torch
from torch import Tensor

# TP=2 against one GPU in the small random models of test_the_self_check_tells_rounding_from_faults.py, with 4 and 8
# layers: fp32 1e-6, bf16 0.03 and 0.04, int8 0.08 and 0.14, fp8 0.21 and 0.35. Faults: 1.0 to 1.5 in all of them.
FULL_PRECISION = 1e-2  # attention of float32 on GPUs rounds its products to TF32, 5e-4 each
SIXTEEN_BITS = 0.25
QUANTISED = 0.75


def tolerance(dtype: torch.dtype, *, is_quantised: bool) -> float:
    """The largest `distance` that is rounding, of a model whose activations are `dtype`."""
    if is_quantised:
        return QUANTISED
    return FULL_PRECISION if dtype == torch.float32 else SIXTEEN_BITS


def distance(host: Tensor, overlay: Tensor) -> float:
    """[n, d] and [n, d] -> the largest |overlay - host| / |host| of a row; inf where a number is NaN.

    Nothing of float32 is made but [n]: the largest graph's hidden states are hundreds of MiB beside a full KV cache.
    """
    apart, length = (torch.linalg.vector_norm(rows, dim=1, dtype=torch.float32) for rows in (overlay - host, host))
    farthest = float((apart / length.clamp_min(1e-6)).max())
    return farthest if farthest == farthest else float("inf")
