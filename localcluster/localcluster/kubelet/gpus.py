"""Which of a node's GPUs belong to which pod: the device plugin's part, after the scheduler has counted. Pure."""

from __future__ import annotations

from localcluster.kubelet import quantity
from localcluster.kubelet.objects import Json

RESOURCE = "nvidia.com/gpu"


class OutOfGPUs(Exception):
    """The pod asks for more than is left; it is rejected at admission."""

    def __init__(self, requested: int, available: int) -> None:
        super().__init__(
            f"Allocate failed due to requested number of devices unavailable for {RESOURCE}. "
            f"Requested: {requested}, Available: {available}, which is unexpected"
        )


class GPUs:
    """The GPUs 0 .. count-1 of one node."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._held: dict[str, list[int]] = {}

    def free(self) -> list[int]:
        taken = {index for held in self._held.values() for index in held}
        return [index for index in range(self.count) if index not in taken]

    def assign(self, pod: Json) -> dict[str, list[int]]:
        """Container name -> its GPU indices, held until `release`. Raises OutOfGPUs and then holds nothing.

        Init containers end before the others start, so they use the same devices: a pod needs the larger of both sums.
        """
        spec = pod["spec"]
        shares: dict[str, list[int]] = {}
        init = [one for one in spec.get("initContainers", []) if one.get("restartPolicy") != "Always"]
        sidecars = [one for one in spec.get("initContainers", []) if one.get("restartPolicy") == "Always"]
        lasting = [*sidecars, *spec["containers"]]
        need = max(sum(asked(one) for one in lasting), max((asked(one) for one in init), default=0))
        free = self.free()
        if need > len(free):
            raise OutOfGPUs(need, len(free))
        mine = free[:need]
        at = 0
        for one in lasting:
            shares[one["name"]] = mine[at : at + asked(one)]
            at += asked(one)
        for one in init:
            shares[one["name"]] = mine[: asked(one)]
        if need:
            self._held[pod["metadata"]["uid"]] = mine
        return shares

    def release(self, uid: str) -> None:
        self._held.pop(uid, None)


def asked(container: Json) -> int:
    """The number of GPUs a container asks for; limits and requests are equal for extended resources."""
    resources = container.get("resources", {})
    return int(
        quantity.parse(resources.get("limits", {}).get(RESOURCE, resources.get("requests", {}).get(RESOURCE, 0)))
    )
