"""How a Prometheus of the Prometheus operator finds the replicas' metrics (docs/contract.md, section 4)."""

from shift_operator.api import labels
from shift_operator.api.shiftdeployment import ShiftDeployment
from shift_operator.planning.manifest import Manifest, child
from shift_operator.planning.names import workload_name

SCRAPE_SECONDS = 15


def pod_monitor(deployment: ShiftDeployment) -> Manifest:
    """The PodMonitor. namespace and pod are labels that the Prometheus operator adds; the third is ours to add."""
    label = "__meta_kubernetes_pod_label_" + labels.DEPLOYMENT.translate(str.maketrans("./-", "___"))
    endpoint = {
        "port": labels.HTTP_PORT_NAME,
        "path": "/metrics",
        "interval": f"{SCRAPE_SECONDS}s",
        # The list is one value to the API server: what its schema defaults in it must be written to compare equal.
        "relabelings": [{"action": "replace", "sourceLabels": [label], "targetLabel": "deployment"}],
    }
    spec = {
        "selector": {"matchLabels": labels.selector_labels(deployment.name)},
        "podMetricsEndpoints": [endpoint],
    }
    return child(deployment, "monitoring.coreos.com/v1", "PodMonitor", workload_name(deployment.name), {"spec": spec})
