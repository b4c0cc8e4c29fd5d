"""How many replicas must stay while nodes are drained."""

from typing import Annotated

from pydantic import Field

from shift_operator.api.base import ApiType
from shift_operator.api.scaling import MAX_REPLICAS


class Disruption(ApiType):
    """How many replicas must stay while nodes are drained. It binds who evicts pods (kubectl drain, an autoscaler of
    nodes), neither rollouts nor scaling."""

    min_available: Annotated[int | None, Field(ge=0, le=MAX_REPLICAS)] = None
    """Replicas that must serve after an eviction. Unit: replicas. Default: all but one, so that nodes are drained one
    after the other, and a single replica does not block its node. Takes effect live. Example: 3 of 4; with all of them
    no node of theirs can be drained, which a person must then resolve. Replicas that do not serve anyhow may always be
    evicted."""
