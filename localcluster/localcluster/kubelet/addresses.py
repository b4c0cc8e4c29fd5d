"""One loopback address per pod, from the pod CIDR. Pure.

Addresses are handed out in turn, so that one comes again only after all others: a client that still holds an old pod's
address gets a refusal, not a stranger.
"""

from __future__ import annotations

import ipaddress


class Addresses:
    """The usable addresses of `cidr`: those ending in .0 and .255 are left out."""

    def __init__(self, cidr: str) -> None:
        self.network = ipaddress.IPv4Network(cidr)
        self._next = 1
        self._used: dict[str, str] = {}

    def lease(self, uid: str) -> str:
        """The pod's address, the same until it is returned. Raises OSError when none is left."""
        if uid in self._used:
            return self._used[uid]
        taken = set(self._used.values())
        for _ in range(self.network.num_addresses):
            address = str(self.network[self._next])
            self._next = (self._next + 1) % self.network.num_addresses
            if address not in taken and not address.endswith((".0", ".255")):
                self._used[uid] = address
                return address
        raise OSError(f"pod CIDR {self.network}: all addresses are in use")

    def skip(self, address: str) -> None:
        """An earlier kubelet gave this one away: go on behind it."""
        try:
            offset = int(ipaddress.IPv4Address(address)) - int(self.network.network_address)
        except ValueError:
            return
        if self._next <= offset < self.network.num_addresses - 1:
            self._next = offset + 1

    def give_back(self, uid: str) -> None:
        self._used.pop(uid, None)
