"""The schedule: which degree a step of n batched tokens runs at. Pure; docs/contract.md section 2 is the rule book."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from .degree import Degree, DegreeReport, DegreeState

MAX_RANGES = 8
MAX_BYTES = 64 * 1024  # a valid file has a few hundred


class ScheduleFault(StrEnum):
    """Why a schedule file is refused or not applied: `file.reason` of GET /shift, and the label `reason` of
    `shift_schedule_errors_total`."""

    SYNTAX = "Syntax"  # no JSON, unknown or missing keys, a value of another type
    RANGES = "Ranges"  # none, too many, unordered, the last one bounded, or a bound that no step exceeds
    DEGREE = "Degree"  # a degree that this model on so many GPUs cannot run
    NEEDS_RESTART = "NeedsRestart"  # a degree that this engine cannot have while it runs
    GENERATION = "Generation"  # older than the generation that runs
    RPC = "RPC"  # valid, but the ranks did not take it; tried again


class ScheduleError(ValueError):
    """A schedule that is refused whole: the sentence names the field, the rule and the way out."""

    def __init__(self, fault: ScheduleFault, sentence: str) -> None:
        super().__init__(sentence)
        self.fault = fault


@dataclass(frozen=True)
class TokenRange:
    """Steps of up to `up_to_tokens` tokens run at `degree`; None is "and all larger ones"."""

    up_to_tokens: int | None
    degree: Degree


@dataclass(frozen=True)
class Schedule:
    """Ascending token ranges that cover every n >= 1. Generation 0 is the schedule of the start-up flags."""

    generation: int
    ranges: tuple[TokenRange, ...]

    def degree_for(self, tokens: int) -> Degree:
        """The degree of a step of `tokens` batched tokens (before any padding)."""
        for entry in self.ranges:
            if entry.up_to_tokens is None or tokens <= entry.up_to_tokens:
                return entry.degree
        raise AssertionError("the last range takes the rest")

    def threshold(self, max_tokens: int) -> int:
        """The bound of the first range as the metric reports it: 0 when every step runs at a sequence-parallel degree,
        `max_tokens` when none does."""
        if not self.ranges[0].degree.is_full_tensor:
            return 0
        first = self.ranges[0].up_to_tokens
        return max_tokens if first is None else min(first, max_tokens)

    def neighbour_degree(self, tokens: int, factor: float) -> Degree | None:
        """The degree on the other side of the nearest bound that lies within `factor` of `tokens`, or None."""
        for below, above in zip(self.ranges, self.ranges[1:], strict=False):
            bound = below.up_to_tokens
            if bound is not None and bound / factor <= tokens <= bound * factor:
                return above.degree if tokens <= bound else below.degree
        return None

    @property
    def degrees(self) -> frozenset[Degree]:
        """The degrees that its ranges name."""
        return frozenset(entry.degree for entry in self.ranges)

    def to_document(self) -> dict[str, Any]:
        """The JSON document of the schedule file; also what travels by RPC."""
        return {"generation": self.generation, "ranges": [_range_document(entry) for entry in self.ranges]}

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> "Schedule":
        """What `to_document` gave; not for what a file says, which `read_schedule` judges."""
        return cls(
            document["generation"],
            tuple(
                TokenRange(entry.get("upToTokens"), Degree(entry["sequence"], entry["tensor"]))
                for entry in document["ranges"]
            ),
        )

    @classmethod
    def two_ranges(cls, threshold: int, large: Degree, *, generation: int = 0) -> "Schedule":
        """The paper's rule (Algorithm 2): up to `threshold` tokens 1 x P, above it `large`."""
        if large.is_full_tensor or threshold == 0:
            return cls(generation, (TokenRange(None, large),))
        small = TokenRange(threshold, Degree.full_tensor(large.gpus))
        return cls(generation, (small, TokenRange(None, large)))


@dataclass(frozen=True)
class ScheduleRules:
    """What an engine lets a schedule file say at this moment."""

    degrees: Mapping[Degree, DegreeReport]  # every degree of its P GPUs
    started_with: Collection[Degree]  # valid even where the overlay is not there: their steps fall back
    max_tokens: int  # vLLM's max_num_batched_tokens: no step is larger
    generation: int = 0  # that the ranks run: a file may not be older


def read_schedule(text: str | bytes, rules: ScheduleRules) -> Schedule:
    """Read a schedule file, or refuse it whole. Raises ScheduleError."""
    if len(text) > MAX_BYTES:
        raise _syntax(f"the file has {len(text)} bytes, more than {MAX_BYTES}; it is no schedule")
    try:
        document = json.loads(text, object_pairs_hook=_without_repeats, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise _syntax(f"the file is no JSON: {error}") from None
    return check_schedule(document, rules)


def check_schedule(document: Any, rules: ScheduleRules) -> Schedule:
    """Turn a decoded document into a Schedule, or refuse it whole. Raises ScheduleError."""
    _keys(document, "the file", required={"generation", "ranges"})
    generation = _whole("generation", document["generation"])
    entries = document["ranges"]
    if not isinstance(entries, list):
        raise _syntax("ranges: must be a list")
    if not 1 <= len(entries) <= MAX_RANGES:
        raise _ranges(f"ranges: {len(entries)} of them; give 1 to {MAX_RANGES}")
    ranges = tuple(_read_range(f"ranges[{i}]", entry) for i, entry in enumerate(entries))
    _ordered(ranges, rules.max_tokens)
    for i, entry in enumerate(ranges):
        _degree_allowed(f"ranges[{i}]", entry.degree, rules)
    if generation < rules.generation:
        raise ScheduleError(
            ScheduleFault.GENERATION,
            f"generation: {generation} is older than {rules.generation}, which runs; write the ranges with a "
            f"generation of at least {rules.generation}",
        )
    return Schedule(generation, ranges)


def _read_range(name: str, entry: Any) -> TokenRange:
    _keys(entry, name, required={"sequence", "tensor"}, optional={"upToTokens"})
    bound = _whole(f"{name}.upToTokens", entry["upToTokens"]) if "upToTokens" in entry else None
    return TokenRange(
        bound, Degree(_whole(f"{name}.sequence", entry["sequence"]), _whole(f"{name}.tensor", entry["tensor"]))
    )


def _degree_allowed(name: str, degree: Degree, rules: ScheduleRules) -> None:
    report = rules.degrees.get(degree)
    usable = [str(each.degree) for each in rules.degrees.values() if each.state in _USABLE]
    instead = f"name one of {', '.join(usable)}"
    if report is None:
        gpus = next(iter(rules.degrees)).gpus
        raise ScheduleError(
            ScheduleFault.DEGREE, f"{name}: degree {degree} takes {degree.gpus} GPUs, this engine has {gpus}; {instead}"
        )
    if report.state in _USABLE or degree in rules.started_with:
        return
    if report.state is DegreeState.NEEDS_RESTART:
        raise ScheduleError(
            ScheduleFault.NEEDS_RESTART,
            f"{name}: degree {degree} needs a restart with --shift-degree {degree} ({report.reason}); or {instead}",
        )
    raise ScheduleError(ScheduleFault.DEGREE, f"{name}: degree {degree}: {report.reason}; {instead}")


_USABLE = (DegreeState.LOADED, DegreeState.BUILDABLE, DegreeState.BUILDING)


def _ordered(ranges: tuple[TokenRange, ...], max_tokens: int) -> None:
    previous = 0
    for i, entry in enumerate(ranges):
        last = i == len(ranges) - 1
        if last != (entry.up_to_tokens is None):
            rule = "the last range takes the rest: leave out its upToTokens" if last else "only the last may lack it"
            raise _ranges(f"ranges[{i}].upToTokens: {rule}")
        if entry.up_to_tokens is not None:
            if entry.up_to_tokens <= previous:
                raise _ranges(f"ranges[{i}].upToTokens: {entry.up_to_tokens} is not above {previous}; order them")
            if entry.up_to_tokens >= max_tokens:
                raise _ranges(
                    f"ranges[{i}].upToTokens: {entry.up_to_tokens} is not below max_num_batched_tokens {max_tokens}, "
                    "so no step would run at the ranges after it; lower it, leave them out, or start the engine with a "
                    "larger --max-num-batched-tokens"
                )
            previous = entry.up_to_tokens


def _range_document(entry: TokenRange) -> dict[str, int]:
    bound = {} if entry.up_to_tokens is None else {"upToTokens": entry.up_to_tokens}
    return bound | {"sequence": entry.degree.sequence, "tensor": entry.degree.tensor}


def _keys(value: Any, name: str, *, required: set[str], optional: frozenset[str] | set[str] = frozenset()) -> None:
    if not isinstance(value, dict):
        raise _syntax(f"{name}: must be an object")
    if missing := required - value.keys():
        raise _syntax(f"{name}: lacks {', '.join(sorted(missing))}")
    if unknown := value.keys() - required - optional:
        raise _syntax(
            f"{name}: unknown key {', '.join(sorted(unknown))}; known are {', '.join(sorted(required | optional))}"
        )


def _whole(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 2**31:
        raise _syntax(f"{name}: must be a whole number from 1 on, not {json.dumps(value)[:40]}")
    return value


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a key occurs twice")
    return document


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def _syntax(sentence: str) -> ScheduleError:
    return ScheduleError(ScheduleFault.SYNTAX, sentence)


def _ranges(sentence: str) -> ScheduleError:
    return ScheduleError(ScheduleFault.RANGES, sentence)
