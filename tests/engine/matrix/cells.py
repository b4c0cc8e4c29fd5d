"""The cells of the matrix: a model family, its KV heads and the GPUs of a replica; which `make test-engine` plays.

Every model has 8 query heads. With P = 2 and P = 4, 8 KV heads are MHA, 4 and 2 are GQA, 1 is MQA; fewer than P lie on
several ranks. An engine of four ranks runs both of its degrees, 4x1 and 2x2, over one KV cache.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar

FAMILIES = ("llama", "qwen2", "qwen3", "gemma")
MOE_FAMILIES = ("mixtral", "qwen3_moe")


def phases_of(degrees: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """By name, the degrees that an engine's steps take in turn: never an overlay, one always, another at each step."""
    sequence, tensor = map(int, degrees[0].split("x"))
    full = f"1x{sequence * tensor}"
    always = {f"always {degree}": (degree,) for degree in degrees}
    return {"never": (full,), **always, "every step another": (full, *degrees)}


@dataclass(frozen=True)
class Cell:
    """One engine."""

    family: str
    kv_heads: int
    gpus: int
    eight_bits: str = ""  # "int" or "float": weights and activations (checkpoints.quantise)

    @property
    def engines(self) -> tuple[bool, ...]:
        """Whether each of its engines is stock vLLM. One GPU has nothing to shift."""
        return (True,) if self.gpus == 1 else (True, False)

    @property
    def is_moe(self) -> bool:
        """Whether it has experts."""
        return self.family in MOE_FAMILIES

    @property
    def keeps_weights(self) -> bool:
        """Whether its overlay needs a worker that keeps all weights as loaded, as GPUs do."""
        return self.is_moe or self.eight_bits == "float"

    @property
    def is_compiled(self) -> bool:
        """Whether torch.compile runs both models, of two ranks and of four; serving/scenarios.py has the dense case."""
        return (self.family, self.gpus, self.kv_heads) in {("qwen3_moe", 2, 4), ("qwen3_moe", 4, 8)}

    @property
    def phases(self) -> dict[str, tuple[str, ...]]:
        """What the engine runs under, by name."""
        return phases_of(self.degrees)

    @property
    def degrees(self) -> tuple[str, ...]:
        """Of the overlays; the host's 1 x P comes beside them."""
        return ("2x1",) if self.gpus == 2 else ("4x1", "2x2")

    def __str__(self) -> str:
        eight_bits = f", {self.eight_bits}8" if self.eight_bits else ""
        return f"{self.family}, {self.kv_heads} KV heads, P={self.gpus}{eight_bits}"


@dataclass(frozen=True)
class PlainCell:
    """An engine of two ranks (or two for each pipeline stage) that must run plain tensor parallelism."""

    family: str
    reason: str  # what GET /shift says
    options: tuple[tuple[str, Any], ...] = ()  # of vLLM
    generates: bool = False  # else vLLM on CPU starts it, but stock or not it cannot run a step
    adapter: bool = False  # also with a LoRA adapter (checkpoints.write_adapter)

    @property
    def engines(self) -> tuple[bool, ...]:
        """Whether each of its engines is stock vLLM."""
        return (True, False) if self.generates else (False,)

    def __str__(self) -> str:
        return f"{self.family} {dict(self.options) or ''}".strip()


LORA = PlainCell(
    "llama", "the overlay does not support LoRA yet", (("enable_lora", True),), generates=True, adapter=True
)
PLAIN = (
    LORA,
    PlainCell("deepseek_v2", "the overlay does not support MLA attention yet", generates=True),
    PlainCell("mamba", "the overlay does not support state-space layers yet", (("enable_prefix_caching", False),)),
    PlainCell("llama", "the overlay does not support pipeline parallelism yet", (("pipeline_parallel_size", 2),)),
    PlainCell("llama", "its weights cannot be the host's, and a copy of ", (("worker_cls", "ranks.PoorWorker"),)),
    PlainCell("llama", "a rank needs ", (("worker_cls", "ranks.UnpackedPoorWorker"),)),
    PlainCell("mixtral", "a mixture of experts runs over the host's weights alone, but model.layers.0.self_attn."),
)


@dataclass(frozen=True)
class MixCell:
    """An engine that answers requests of all kinds at once (kinds_of_request.py), its KV cache too small for them."""

    speculation: str  # "no", "n-gram" or "EAGLE" speculative decoding
    degrees: tuple[str, ...]  # of the overlays
    family: str = "llama"
    kv_heads: int = 2
    draft_tokens: int = 3  # that are proposed for each request in a step
    engines: ClassVar[tuple[bool, ...]] = (True, False)  # whether each is stock vLLM
    is_moe: ClassVar[bool] = False
    keeps_weights: ClassVar[bool] = False
    is_compiled: ClassVar[bool] = False

    @property
    def phases(self) -> dict[str, tuple[str, ...]]:
        """What the engine runs under, by name."""
        return phases_of(self.degrees)

    @property
    def gpus(self) -> int:
        """P."""
        sequence, tensor = self.degrees[0].split("x")
        return int(sequence) * int(tensor)

    def __str__(self) -> str:
        return f"{self.speculation} speculation, {self.family}, P={self.gpus}"


EAGLE = MixCell("EAGLE", ("2x1",))
BOTH = ("4x1", "2x2")
MIXES = (
    EAGLE,
    MixCell("n-gram", ("2x1",)),
    MixCell("no", BOTH),
    MixCell("EAGLE", BOTH, draft_tokens=2),  # a request's three rows are fewer than the ranks of 4x1
    MixCell("n-gram", BOTH, family="qwen3", kv_heads=4),
)

AnyCell = Cell | MixCell | PlainCell
Played = Callable[[AnyCell], dict[str, Any]]  # conftest.py's

KV_HEADS = (8, 4, 2, 1)
DENSE_CELLS = [Cell(family, k, gpus) for family, gpus, k in product(FAMILIES, (2, 4), KV_HEADS)]
MOE_CELLS = [
    *(Cell("mixtral", 8, 2), Cell("qwen3_moe", 4, 2), Cell("qwen3_moe", 2, 2), Cell("mixtral", 1, 2)),
    *(Cell("qwen3_moe", 8, 4), Cell("mixtral", 4, 4), Cell("mixtral", 2, 4), Cell("qwen3_moe", 1, 4)),
]
EVERY_CELL = (*DENSE_CELLS, *MOE_CELLS)
DENSE, MIXTURE = Cell("qwen3", 4, 2), Cell("mixtral", 8, 2)
INT8, INT8_ON_ONE_GPU = (Cell("llama", 2, gpus, eight_bits="int") for gpus in (2, 1))
FP8, FP8_ON_ONE_GPU = (Cell("llama", 2, gpus, eight_bits="float") for gpus in (2, 1))
SUBSET = (DENSE, MIXTURE, EAGLE, LORA, FP8)  # what `make test-engine` plays; conftest.py marks all others
