"""The replicas as a pool for an inference gateway: Gateway API's inference extension, v1."""

from shift_operator.api import labels
from shift_operator.api.shiftdeployment import ShiftDeployment
from shift_operator.planning.manifest import Manifest, child
from shift_operator.planning.names import endpoint_picker_name, workload_name


def inference_pool(deployment: ShiftDeployment) -> Manifest:
    """The InferencePool that a gateway's HTTPRoute can name instead of the Service."""
    picker = deployment.spec.gateway.endpoint_picker
    spec = {
        "selector": {"matchLabels": labels.selector_labels(deployment.name)},
        "targetPorts": [{"number": labels.HTTP_PORT}],
        "endpointPickerRef": {
            "kind": "Service",
            "name": picker.service_name or endpoint_picker_name(deployment.name),
            "port": {"number": picker.port},
            "failureMode": picker.failure_mode.value,
        },
    }
    name = workload_name(deployment.name)
    return child(deployment, "inference.networking.k8s.io/v1", "InferencePool", name, {"spec": spec})
