"""A degree: how the P GPUs of a replica share one engine step."""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

_WRITTEN = re.compile(r"^([1-9][0-9]{0,3})x([1-9][0-9]{0,3})$")


class Degree(NamedTuple):
    """`sequence` ranks split the tokens of a step, `tensor` ranks split the weights; their product is P.

    Rank = t * sequence + s: the sequence index runs fastest, so head block r lies on rank r under every degree and one
    KV cache serves them all (arXiv 2509.16495, section 3.3.1; there a permutation is needed, here none).

    A tuple, since each step looks its degree up several times, and a tuple's hash takes no step of Python.
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


def degrees_of(gpus: int) -> tuple[Degree, ...]:
    """Every degree of P GPUs, ascending by sequence: 1 x P first, P x 1 last."""
    return tuple(Degree(sequence, gpus // sequence) for sequence in range(1, gpus + 1) if gpus % sequence == 0)


class DegreeState(StrEnum):
    """What a schedule may do with a degree; `degrees[].state` of GET /shift (docs/contract.md section 3)."""

    LOADED = "Loaded"  # steps can run at it
    BUILDABLE = "Buildable"  # a schedule that names it makes this engine build it while it serves
    BUILDING = "Building"  # the ranks are at it; steps wait
    NEEDS_RESTART = "NeedsRestart"  # an engine started with it may have it: memory lacks, or building it failed
    UNSUPPORTED = "Unsupported"  # this model or configuration cannot run it


@dataclass(frozen=True)
class DegreeReport:
    """A degree, its state in this engine, and why it is no better."""

    degree: Degree
    state: DegreeState
    reason: str | None = None

    def to_document(self) -> dict[str, Any]:
        """An element of `degrees` in GET /shift; also what travels by RPC."""
        degree = self.degree
        return {"sequence": degree.sequence, "tensor": degree.tensor, "state": str(self.state), "reason": self.reason}

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> "DegreeReport":
        """The other way round."""
        degree = Degree(document["sequence"], document["tensor"])
        return cls(degree, DegreeState(document["state"]), document["reason"])
