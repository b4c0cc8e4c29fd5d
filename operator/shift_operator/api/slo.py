"""What the user promises to clients: how long an answer may let them wait."""

from typing import Annotated

from pydantic import ConfigDict, Field

from shift_operator.api.base import ApiType, Rule, with_rules


class LatencyObjective(ApiType):
    """A time that a share of the requests must keep."""

    percentile: Annotated[int, Field(ge=50, le=99)] = 95
    """The share of the requests that must keep it. Unit: percent. Default: {default}. Takes effect with the next
    decision. Example: 99 asks for more spare replicas than 95 at the same load."""

    milliseconds: Annotated[int, Field(ge=1, le=3_600_000)]
    """The time that they must keep. Unit: milliseconds. Takes effect with the next decision. Example: 800."""


class Slo(ApiType):
    """The service level objectives that scaling.mode Managed keeps."""

    model_config = ConfigDict(
        json_schema_extra=with_rules(
            Rule(
                rule="has(self.ttft) || has(self.tpot)",
                message="slo is empty; write ttft: {milliseconds: 800} or tpot: {milliseconds: 40}, or remove slo",
            )
        )
    )

    ttft: LatencyObjective | None = None
    """Time to first token: from a request's arrival to its first token. Default: no such objective. Takes effect with
    the next decision. Example: percentile 95 with milliseconds 800 lets one request of twenty wait longer."""

    tpot: LatencyObjective | None = None
    """Time per output token, the mean over one answer after its first token. Default: no such objective. Takes effect
    with the next decision. Example: milliseconds 40 is 25 tokens per second and reader."""
