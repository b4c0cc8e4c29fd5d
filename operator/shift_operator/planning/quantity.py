"""Quantities as the API server writes them: what we apply must compare equal to what it gives back."""

from shift_operator.api.engine import Resources

_BINARY_SUFFIXES = ("Mi", "Gi", "Ti", "Pi")


def node_resources(resources: Resources) -> dict[str, str]:
    """The requests of a container; without what the user left out."""
    requests = {}
    if resources.cpu is not None:
        requests["cpu"] = cpu(resources.cpu)
    if resources.memory is not None:
        requests["memory"] = memory(resources.memory)
    return requests


def cpu(quantity: str) -> str:
    """Cores, or thousandths of one with `m`: 2000m is 2."""
    if not quantity.endswith("m"):
        return quantity
    cores, rest = divmod(int(quantity.removesuffix("m")), 1000)
    return quantity if rest else str(cores)


def memory(quantity: str) -> str:
    """Bytes with a binary suffix, the largest that leaves a whole number: 2048Mi is 2Gi."""
    number, suffix = int(quantity[:-2]), _BINARY_SUFFIXES.index(quantity[-2:])
    while number % 1024 == 0:
        number, suffix = number // 1024, suffix + 1
    return f"{number}{_BINARY_SUFFIXES[suffix]}"
