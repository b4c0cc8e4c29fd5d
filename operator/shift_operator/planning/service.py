"""How clients reach the replicas, and who the replicas are."""

from shift_operator.api import labels
from shift_operator.api.shiftdeployment import ShiftDeployment
from shift_operator.planning.manifest import Manifest, child
from shift_operator.planning.names import workload_name


def service(deployment: ShiftDeployment) -> Manifest:
    """The Service in front of the ready replicas."""
    spec = {
        "type": "ClusterIP",
        "selector": labels.selector_labels(deployment.name),
        "ports": [
            {
                "name": labels.HTTP_PORT_NAME,
                "port": labels.HTTP_PORT,
                "protocol": "TCP",
                "targetPort": labels.HTTP_PORT_NAME,
            }
        ],
    }
    return child(deployment, "v1", "Service", workload_name(deployment.name), {"spec": spec})


def service_account(deployment: ShiftDeployment) -> Manifest:
    """The replicas' identity. It has no rights, and no pod gets its token: an engine never talks to the API server."""
    return child(
        deployment, "v1", "ServiceAccount", workload_name(deployment.name), {"automountServiceAccountToken": False}
    )
