"""The shift engine as it were on two pairs of GPUs: an exchange of tokens among four ranks goes over a slow link.

On CPU all ranks share the cores, and which degree is faster is chance. Here it is not: 4x1 pays for the link with each
token of a step, 2x2 exchanges tokens within pairs and does not. Nothing else differs from `shift-engine`, and nobody is
told: calibration measures it.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from shift_engine import serve
from shift_engine.ulysses import UlyssesAttention
from shift_engine.worker import ShiftWorker

RANKS = 4
# A step of the tiny model exchanges 3 KiB per token: 2 ms.
BYTES_PER_SECOND = 1.5e6


class SlowLinksWorker(ShiftWorker):
    """One rank."""

    def load_model(self, **options: Any) -> None:
        exchange = UlyssesAttention._exchange

        def slow(layer: UlyssesAttention, sent: torch.Tensor, counts: list[int] | None) -> torch.Tensor:
            if layer.heads.sequence == RANKS:
                time.sleep(sent.nbytes / BYTES_PER_SECOND)
            return exchange(layer, sent, counts)

        UlyssesAttention._exchange = slow
        super().load_model(**options)


if __name__ == "__main__":
    serve.WORKER = "slow_links.SlowLinksWorker"
    serve.main()
