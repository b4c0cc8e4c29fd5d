"""How an inference gateway (Gateway API inference extension) reaches the replicas."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from shift_operator.api.base import ApiType, ObjectName


class FailureMode(StrEnum):
    FAIL_OPEN = "FailOpen"  # requests go to any replica
    FAIL_CLOSE = "FailClose"  # requests are refused


class EndpointPicker(ApiType):
    """The service that chooses a replica for each request. It is not the operator's: install it beside."""

    service_name: ObjectName | None = None
    """Its Service, in the ShiftDeployment's namespace. Default: the ShiftDeployment's name with -epp. Takes effect
    live. Example: chat-epp, as the InferencePool's own Helm chart names it."""

    port: Annotated[int, Field(ge=1, le=65_535)] = 9002
    """The Service's port. Unit: a TCP port. Default: {default}. Takes effect live."""

    failure_mode: FailureMode = FailureMode.FAIL_OPEN
    """What happens while it does not answer. Default: {default}. Takes effect live. Example: FailClose where a request
    at the wrong replica is worse than none; without an endpoint picker the gateway then refuses everything."""


class Gateway(ApiType):
    """How an inference gateway reaches the replicas. In a cluster without the InferencePool kind it changes nothing."""

    endpoint_picker: EndpointPicker = EndpointPicker()
    """The service that chooses a replica for each request."""
