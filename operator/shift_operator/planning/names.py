"""The children's names (docs/contract.md, section 5). They are found by name, so a name never changes."""


def workload_name(deployment: str) -> str:
    """Of the Deployment, the Service and the ServiceAccount."""
    return deployment


def schedule_name(deployment: str) -> str:
    """Of the ConfigMap with the schedule."""
    return f"{deployment}-schedule"
