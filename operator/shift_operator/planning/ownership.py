"""Which of several installs of the operator serves a ShiftDeployment, where more than one would.

An install is its processes together, known by their Lease. Two overlap in a namespace that both watch with the same
`--instance`. One of them serves it, the others leave it alone: one that names its namespaces goes before one of the
whole cluster, then the older Lease goes before the younger, then its name decides. Each of them judges by the same
Leases, so all come to the same answer; when which of them may act on it is `controller/installs.py`'s.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from shift_operator.api.conditions import ConditionStatus, ConflictReason
from shift_operator.planning.conditions import Verdict


@dataclass(frozen=True)
class Install:
    """`name`: its Lease, as namespace/name. `namespaces`: those that it watches, empty for all. `created`: its Lease's
    creation."""

    name: str
    namespaces: frozenset[str]
    created: datetime

    def watches(self, namespace: str | None) -> bool:
        """Whether it watches this namespace; None asks for all of them."""
        return not self.namespaces or namespace in self.namespaces

    def goes_before(self, other: "Install") -> bool:
        """Whether it serves what both watch."""
        return self.rank < other.rank

    @property
    def rank(self) -> tuple[bool, datetime, str]:
        """The lowest serves."""
        return not self.namespaces, self.created, self.name

    def why_before(self, other: "Install") -> str:
        """Why `goes_before`, as the rest of a sentence about it."""
        if bool(self.namespaces) != bool(other.namespaces):
            return "which names the namespace"
        return "whose Lease is older" if self.created != other.created else "whose name comes first"


@dataclass(frozen=True)
class Other:
    """An install that is alive. `lets_go`: it served what is ours now, and may not have seen yet that it is."""

    install: Install
    lets_go: bool = False


@dataclass(frozen=True)
class Ownership:
    """Who serves a namespace.

    `owner`: the install that does instead of this one. `letting_go`: the one that did until now; until it has stopped,
    nobody does. `others`: those that leave it to this one. `hidden`: why other installs cannot be seen.
    """

    us: str = ""
    owner: Install | None = None
    why: str = ""
    letting_go: Install | None = None
    others: Sequence[Install] = ()
    hidden: str | None = None

    @property
    def is_ours(self) -> bool:
        return self.owner is None and self.letting_go is None


def ownership(us: Install, others: Sequence[Other], namespace: str | None) -> Ownership:
    """Who serves this namespace; for None, what belongs to no namespace. `others` have the same `--instance`."""
    here = [other for other in others if other.install.watches(namespace)]
    before = [other.install for other in here if other.install.goes_before(us)]
    if before:
        owner = min(before, key=lambda install: install.rank)
        return Ownership(us.name, owner=owner, why=owner.why_before(us))
    letting_go = next((other.install for other in here if other.lets_go), None)
    after = tuple(sorted((other.install for other in here), key=lambda install: install.name))
    return Ownership(us.name, letting_go=letting_go, others=after, why=us.why_before(after[0]) if after else "")


WAY_OUT = (
    "give one of them an instance name, and the ShiftDeployments that are for it the label shiftparallel.io/operator, "
    "or let them watch other namespaces"
)


def conflict(serving: Ownership) -> Verdict:
    """True while another install would serve the deployment too."""
    if serving.hidden is not None:
        return Verdict(ConditionStatus.UNKNOWN, ConflictReason.INSTALLS_HIDDEN, serving.hidden)
    if not serving.others:
        return Verdict(ConditionStatus.FALSE, ConflictReason.NO_CONFLICT, "")
    names = ", ".join(install.name for install in serving.others)
    would = "would serve it too and leaves" if len(serving.others) == 1 else "would serve it too and leave"
    message = f"{names} {would} it to {serving.us}, {serving.why}; {WAY_OUT}"
    return Verdict(ConditionStatus.TRUE, ConflictReason.OVERLAPPING_INSTALLS, message)
