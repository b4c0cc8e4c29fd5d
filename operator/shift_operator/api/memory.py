"""What the laws must remember of a deployment for longer than one operator process lives."""

from typing import Annotated, Self

from pydantic import Field

from shift_operator.api.base import ApiType, Time, keyed_by
from shift_operator.api.schedule import MAX_GPUS


class BetterDegree(ApiType):
    """A degree that has been better than the present one, by enough, at every look since then."""

    sequence: Annotated[int, Field(ge=1, le=MAX_GPUS)]
    """Its sequence parallelism. Unit: GPUs."""

    tensor: Annotated[int, Field(ge=1, le=MAX_GPUS)]
    """Its tensor parallelism. Unit: GPUs."""

    since: Time
    """The first of these looks."""


class ReplicasMemory(ApiType):
    """What the replicas law remembers."""

    watched_since: Time
    """From then on no look was missed. Going down waits until that is a stabilisation window ago."""

    highest_wanted: Annotated[int, Field(ge=0)]
    """The most replicas that were wanted within the stabilisation window. Unit: replicas."""

    unknown_since: Time | None = None
    """Since when the signals are unknown. Absent while they are known."""

    idle_since: Time | None = None
    """Since when no request came. Absent while there are some, or it is not known."""

    raised_time: Time | None = None
    """When the replicas were last raised."""

    correction_percent: Annotated[int, Field(ge=1, le=1000)]
    """Measured over predicted step time, as learned. Unit: percent. Written along with other news only."""


class Memory(ApiType):
    """What the laws remember of a deployment: since when something lasts. Absent where nothing does."""

    looked_time: Time
    """The last look that is in here. Written along with other news only."""

    threshold_unknown_since: Time | None = None
    """Since when the signals for the threshold are unknown. Absent while they are known."""

    degree_unknown_since: Time | None = None
    """Since when the signals for the degree are unknown. Absent while they are known."""

    better_degrees: Annotated[
        tuple[BetterDegree, ...], Field(max_length=8, json_schema_extra=keyed_by("sequence", "tensor"))
    ] = ()
    """Degrees that have been better for a while, not yet for long enough."""

    replicas: ReplicasMemory | None = None
    """What the replicas law remembers, in scaling.mode Managed."""

    def what_lasts(self) -> Self:
        """Without what moves at every look: two that are equal in this say the same to the next process."""
        replicas = self.replicas and self.replicas.model_copy(update={"correction_percent": 100})
        return self.model_copy(update={"looked_time": None, "replicas": replicas})
