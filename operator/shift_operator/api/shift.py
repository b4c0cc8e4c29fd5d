"""When a replica shifts from tensor to sequence parallelism. Everything here takes effect live, without a restart."""

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from shift_operator.api.base import ApiType, Rule, with_rules
from shift_operator.api.schedule import MAX_TOKENS


class ShiftMode(StrEnum):
    AUTO = "Auto"  # the operator moves the threshold by the engines' metrics
    FIXED = "Fixed"  # the threshold is the spec's
    TENSOR_ONLY = "TensorOnly"  # every step with tensor parallelism over all GPUs: the base line of a comparison
    SEQUENCE_ONLY = "SequenceOnly"  # every step at parallelism.degree


class ThresholdRange(ApiType):
    """The bounds of the threshold, both included."""

    model_config = ConfigDict(
        json_schema_extra=with_rules(
            Rule(
                rule="self.min <= self.max",
                message_expression=(
                    "'shift.thresholdRange: min %d is above max %d; swap them or raise max'"
                    ".format([self.min, self.max])"
                ),
                field=".min",
            )
        )
    )

    min: Annotated[int, Field(ge=1, le=MAX_TOKENS)] = 16
    """The lowest threshold that may be set. Unit: tokens per engine step. Default: {default}. Takes effect live.
    Example: 64 keeps decodes of up to 64 requests tensor-parallel whatever the metrics say. At most max."""

    max: Annotated[int, Field(ge=1, le=MAX_TOKENS)] = 8192
    """The highest threshold that may be set. Unit: tokens per engine step. Default: {default}. Takes effect live.
    Example: 1024 keeps prefills of more than 1024 tokens sequence-parallel whatever the metrics say. At least min."""


class Shift(ApiType):
    """The threshold between the two ways to run a step, and who sets it."""

    model_config = ConfigDict(
        json_schema_extra=with_rules(
            Rule(
                rule="self.thresholdTokens >= self.thresholdRange.min"
                " && self.thresholdTokens <= self.thresholdRange.max",
                message_expression=(
                    "'shift.thresholdTokens %d is outside shift.thresholdRange %d..%d; write a number within the "
                    "range, or widen the range'"
                    ".format([self.thresholdTokens, self.thresholdRange.min, self.thresholdRange.max])"
                ),
                field=".thresholdTokens",
            )
        )
    )

    mode: ShiftMode = ShiftMode.AUTO
    """Who decides which steps run sequence-parallel. Default: {default}. Takes effect live. In Auto the operator
    moves the threshold within thresholdRange by the engines' measured step times; in Fixed it stays at thresholdTokens;
    TensorOnly and SequenceOnly run every step one way. Example: TensorOnly for a week, then Auto, shows what shifting
    brings. With parallelism.degree.sequence 1 there is nothing to shift to: write TensorOnly."""

    threshold_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS)] = 512
    """Steps that batch more tokens than this run sequence-parallel, the others tensor-parallel. Unit: tokens per engine
    step. Default: {default}. Takes effect live, within seconds. Used as it stands in mode Fixed, as the starting
    value in Auto. Example: 1024 suits a deployment whose two step-time curves cross near 1000; set lower, small
    prefills take the slower way. Must lie in thresholdRange, and below the engine's max-num-batched-tokens, or no step
    is ever sequence-parallel."""

    threshold_range: ThresholdRange = ThresholdRange()
    """The bounds within which the threshold may lie. Takes effect live. In Auto the operator never leaves them,
    whatever the metrics say. min must not be above max."""
