"""The engine's own settings and their way to every process: `additional_config["shift_parallel"]` of vLLM's config."""

from dataclasses import asdict, dataclass
from typing import Any

from .degree import Degree
from .schedule import Schedule

KEY = "shift_parallel"


@dataclass(frozen=True)
class ShiftConfig:
    """What the `--shift-*` flags say (docs/contract.md section 1)."""

    degree: str  # of the large steps, "2x1"
    threshold: int = 512  # tokens: larger steps run at `degree` until a schedule file says otherwise
    schedule_file: str | None = None
    calibration: bool = True  # time both modes at start-up
    probe_share: float = 0.005  # of the steps near a bound that run in the other mode, so that both curves stay known
    share_weights: bool = True  # one set for both modes, where the layers allow it; no flag, but a key of the document

    @property
    def large(self) -> Degree:
        """The degree of the large steps."""
        return Degree.parse(self.degree)

    @property
    def first_schedule(self) -> Schedule:
        """The schedule before, or without, a schedule file; generation 0."""
        return Schedule.two_ranges(self.threshold, self.large)

    def to_additional_config(self) -> dict[str, Any]:
        """A JSON document: vLLM hashes it into its compile cache key."""
        return {KEY: asdict(self)}

    @classmethod
    def from_vllm(cls, additional_config: Any) -> "ShiftConfig":
        """Read the settings back inside a worker or the API process. Raises LookupError where none were given."""
        if not isinstance(additional_config, dict) or KEY not in additional_config:
            raise LookupError(
                f"additional_config has no key {KEY}; start the engine by `shift-engine serve`, "
                f'or pass --additional-config \'{{"{KEY}": {{"degree": "2x1"}}}}\''
            )
        return cls(**additional_config[KEY])
