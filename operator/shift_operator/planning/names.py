"""The children's names (docs/contract.md, section 5). They are found by name, so a name never changes."""


def workload_name(deployment: str) -> str:
    """Of every child but the ConfigMap."""
    return deployment


def schedule_name(deployment: str) -> str:
    """Of the ConfigMap with the schedule."""
    return f"{deployment}-schedule"


def endpoint_picker_name(deployment: str) -> str:
    """Of the Service that chooses a replica for each request of a gateway; not a child."""
    return f"{deployment}-epp"
