"""The loopback networks and ports of one cluster among several on this machine.

A cluster has an index k of 10 to 90: its pods use 127.k.0.0/16, its Services 127.<100+k>.0.0/16, its servers a block of
a hundred ports. The blocks lie below the ports that the kernel hands out by itself, so nobody gets one by chance.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, field

from localcluster.errors import NoNetwork

FIRST_INDEX, LAST_INDEX = 10, 90
FIRST_PORT, PORTS = 20_000, 100
LOOPBACK = "127.0.0.1"


@dataclass
class Network:
    """What an index gives. `close` gives the index back; so does the end of the process."""

    index: int
    claim: socket.socket = field(repr=False)
    _taken: int = 0

    @property
    def pod_cidr(self) -> str:
        return f"127.{self.index}.0.0/16"

    @property
    def service_cidr(self) -> str:
        return f"127.{100 + self.index}.0.0/16"

    @property
    def api_service_address(self) -> str:
        """The cluster IP of the Service `kubernetes`: the first of the Service network."""
        return f"127.{100 + self.index}.0.1"

    def port(self) -> int:
        """The next port of the block on which a server can listen. Raises NoNetwork when none is left."""
        while self._taken < PORTS:
            port = FIRST_PORT + PORTS * self.index + self._taken
            self._taken += 1
            with socket.socket() as server:
                server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    server.bind((LOOPBACK, port))
                except OSError:
                    continue
                return port
        raise NoNetwork(f"every port of cluster index {self.index}'s block is taken; stop what listens there")

    def close(self) -> None:
        self.claim.close()


def claim_network() -> Network:
    """The lowest free index. Raises NoNetwork.

    The claim is an abstract Unix socket: its names belong to the same network namespace as the loopback addresses, and
    the kernel frees them with the process, however it ends.
    """
    for index in range(FIRST_INDEX, LAST_INDEX + 1):
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0localcluster-index-{index}")
        except OSError:
            claim.close()
            continue
        return Network(index, claim)
    raise NoNetwork(f"{LAST_INDEX - FIRST_INDEX + 1} clusters run on this machine already; `localcluster down` one")
