"""A degree: how the P GPUs of a replica share one engine step."""

import re
from dataclasses import dataclass

_WRITTEN = re.compile(r"^([1-9][0-9]{0,3})x([1-9][0-9]{0,3})$")


@dataclass(frozen=True, order=True)
class Degree:
    """`sequence` ranks split the tokens of a step, `tensor` ranks split the weights; their product is P.

    Rank = t * sequence + s: the sequence index runs fastest, so head block r lies on rank r under every degree and one
    KV cache serves them all (arXiv 2509.16495, section 3.3.1; there a permutation is needed, here none).
    """

    sequence: int
    tensor: int

    @property
    def gpus(self) -> int:
        """P, the GPUs that this degree needs."""
        return self.sequence * self.tensor

    @property
    def is_full_tensor(self) -> bool:
        """True for 1 x P: stock tensor parallelism."""
        return self.sequence == 1

    def __str__(self) -> str:
        return f"{self.sequence}x{self.tensor}"

    @classmethod
    def parse(cls, text: str) -> "Degree":
        """Read `SEQUENCExTENSOR`, as in `2x1`. Raises ValueError with a sentence."""
        match = _WRITTEN.match(text)
        if match is None:
            raise ValueError(f'"{text}" is no degree; write SEQUENCExTENSOR with whole numbers from 1 on, as in 2x1')
        return cls(int(match[1]), int(match[2]))

    @classmethod
    def full_tensor(cls, gpus: int) -> "Degree":
        """1 x P, the degree that every replica has."""
        return cls(1, gpus)
