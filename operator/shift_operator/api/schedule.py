"""The schedule: which steps run at which degree. The operator writes it, the engine runs it (docs/contract.md)."""

from functools import lru_cache
from typing import Annotated, Self

from pydantic import Field, ValidationError, model_validator

from shift_operator.api.base import ApiType

SCHEDULE_KEY = "schedule.json"
# The largest bucket of the engine's histogram of batched tokens: a bound above it could not be told from it.
MAX_TOKENS = 131_072
MAX_GPUS = 64


class Degree(ApiType):
    """How the GPUs of one replica split a step: `sequence x tensor`, whose product is the replica's GPUs."""

    sequence: Annotated[int, Field(ge=1, le=MAX_GPUS)]
    """Ulysses sequence parallelism: each GPU takes 1/sequence of a step's tokens. Unit: GPUs. Takes effect with a
    rollout. Example: 8 of 8 GPUs gives the fastest prefill, and each GPU holds all weights; 4 with tensor 2 halves the
    weights per GPU. sequence x tensor must be gpusPerReplica, and the model's attention heads must divide by it."""

    tensor: Annotated[int, Field(ge=1, le=MAX_GPUS)]
    """Tensor parallelism under the sequence parallelism: each GPU holds 1/tensor of the weights in large steps.
    Unit: GPUs. Takes effect with a rollout. Example: 2 where one GPU cannot hold the model. Small steps always
    run with tensor parallelism over all GPUs of the replica. sequence x tensor must be gpusPerReplica."""

    @property
    def gpus(self) -> int:
        return self.sequence * self.tensor

    @property
    def is_tensor_only(self) -> bool:
        return self.sequence == 1

    @property
    def tensor_only(self) -> "Degree":
        """The degree of small steps: tensor parallelism over all of its GPUs."""
        return _tensor_only(self.gpus)

    # Degrees are keys wherever there is a curve of each, and pydantic's own comparison costs five times as much.
    def __hash__(self) -> int:
        return hash((self.sequence, self.tensor))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Degree) and self.sequence == other.sequence and self.tensor == other.tensor

    def __str__(self) -> str:
        return f"{self.sequence}x{self.tensor}"


@lru_cache
def _tensor_only(gpus: int) -> Degree:
    return Degree(sequence=1, tensor=gpus)


class Range(ApiType):
    """The steps of at most `up_to_tokens` batched tokens run at this degree; without a bound, all that are left."""

    up_to_tokens: Annotated[int | None, Field(ge=1, le=MAX_TOKENS)] = None
    """The largest step of this range. Unit: batched tokens per engine step. The last range has none."""

    sequence: Annotated[int, Field(ge=1, le=MAX_GPUS)]
    """Sequence parallelism of the range's steps. Unit: GPUs."""

    tensor: Annotated[int, Field(ge=1, le=MAX_GPUS)]
    """Tensor parallelism of the range's steps. Unit: GPUs."""

    @property
    def degree(self) -> Degree:
        return Degree(sequence=self.sequence, tensor=self.tensor)

    @classmethod
    def of(cls, degree: Degree, up_to_tokens: int | None = None) -> Self:
        return cls(up_to_tokens=up_to_tokens, sequence=degree.sequence, tensor=degree.tensor)


class Schedule(ApiType):
    """Ascending ranges of step sizes, each with its degree, and the generation that numbers their changes."""

    generation: Annotated[int, Field(ge=1)]
    """Raised with every change of `ranges`; the engine reports the one it runs."""

    ranges: Annotated[tuple[Range, ...], Field(min_length=1, max_length=8)]
    """In ascending order of `upToTokens`; the last one has none and takes the rest."""

    @model_validator(mode="after")
    def _ascending_and_complete(self) -> Self:
        *bounded, last = self.ranges
        bounds = [r.up_to_tokens for r in bounded if r.up_to_tokens is not None]
        if last.up_to_tokens is not None or len(bounds) != len(bounded):
            raise ValueError("ranges: every range but the last needs upToTokens, and the last must have none")
        if bounds != sorted(set(bounds)):
            raise ValueError(f"ranges: upToTokens must ascend, they are {bounds}")
        return self

    @property
    def threshold_tokens(self) -> int | None:
        """The bound of the first of two ranges; None where every step runs at one degree."""
        return self.ranges[0].up_to_tokens

    def degree_of(self, batched_tokens: int) -> Degree:
        """The degree of a step of this many tokens."""
        for r in self.ranges:
            if r.up_to_tokens is None or batched_tokens <= r.up_to_tokens:
                return r.degree
        raise AssertionError("the last range has no bound")

    def to_json(self) -> str:
        """The schedule file's text: one line, so that `kubectl get configmap -o yaml` shows it whole."""
        return self.model_dump_json(by_alias=True, exclude_none=True)

    @classmethod
    def from_json(cls, text: str) -> Self | None:
        """The schedule of a file; None where someone broke it."""
        try:
            return cls.model_validate_json(text)
        except ValidationError:
            return None
