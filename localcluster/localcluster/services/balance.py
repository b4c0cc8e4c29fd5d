"""Which endpoint gets the next connection: the one with the fewest open ones, in turn among equals. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from localcluster.services.endpoints import Endpoint


class Balance:
    """The open connections of one frontend. One that is taken out keeps its count until they close."""

    def __init__(self) -> None:
        self.ready: list[Endpoint] = []
        self.open: Counter[Endpoint] = Counter()
        self._turn: dict[Endpoint, int] = {}
        self._taken = 0

    def offer(self, endpoints: Iterable[Endpoint]) -> None:
        """These get new connections from now on."""
        self.ready = sorted(endpoints)
        self._turn = {one: self._turn.get(one, 0) for one in self.ready}

    def take(self) -> Endpoint | None:
        """The next connection's endpoint, counted as open; None when nothing is ready."""
        if not self.ready:
            return None
        chosen = min(self.ready, key=lambda one: (self.open[one], self._turn[one], one))
        self._taken += 1
        self._turn[chosen] = self._taken
        self.open[chosen] += 1
        return chosen

    def close(self, endpoint: Endpoint) -> None:
        self.open[endpoint] -= 1
        if self.open[endpoint] <= 0:
            del self.open[endpoint]
