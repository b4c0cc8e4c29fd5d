"""The engine's own settings and their way to every process: `additional_config["shift_parallel"]` of vLLM's config."""

from dataclasses import asdict, dataclass
from typing import Any

from .degree import Degree
from .schedule import Schedule

KEY = "shift_parallel"
FIRST_THRESHOLD = 512  # tokens, where nothing else says one


@dataclass(frozen=True)
class ShiftConfig:
    """What the `--shift-*` flags say (docs/contract.md section 1)."""

    degree: str  # of the large steps, "2x1"
    further_degrees: tuple[str, ...] = ()  # loaded at start too
    threshold: int | None = None  # tokens: larger steps run at `degree` until a schedule file says otherwise
    schedule_file: str | None = None
    calibration: bool = True  # time each loaded degree at start-up, and choose the first schedule where none is given
    graphs: str = "on"  # or "off": capture the steps of each degree that is loaded at start as CUDA graphs
    probe_share: float = 0.005  # of the steps near a bound that run in the other mode, so that both curves stay known
    share_weights: bool = True  # one set for both modes, where the layers allow it; no flag, but a key of the document

    @property
    def large(self) -> Degree:
        """The degree of the large steps."""
        return Degree.parse(self.degree)

    @property
    def started_with(self) -> tuple[Degree, ...]:
        """The degrees of `--shift-degree`, in their order, the large steps' first."""
        return tuple(dict.fromkeys(map(Degree.parse, (self.degree, *self.further_degrees))))

    @property
    def first_schedule(self) -> Schedule:
        """The schedule until calibration, or a schedule file, gives another; generation 0."""
        return Schedule.two_ranges(FIRST_THRESHOLD if self.threshold is None else self.threshold, self.large)

    def to_additional_config(self) -> dict[str, Any]:
        """A JSON document: vLLM hashes it into its compile cache key."""
        return {KEY: asdict(self) | {"further_degrees": list(self.further_degrees)}}

    @classmethod
    def from_vllm(cls, additional_config: Any) -> "ShiftConfig":
        """Read the settings back inside a worker or the API process. Raises LookupError where none were given."""
        if not isinstance(additional_config, dict) or KEY not in additional_config:
            raise LookupError(
                f"additional_config has no key {KEY}; start the engine by `shift-engine serve`, "
                f'or pass --additional-config \'{{"{KEY}": {{"degree": "2x1"}}}}\''
            )
        given = additional_config[KEY]
        return cls(**{**given, "further_degrees": tuple(given.get("further_degrees", ()))})
