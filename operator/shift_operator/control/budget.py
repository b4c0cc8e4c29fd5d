"""The budget: how many of the replicas that deployments want fit in the policy's GPUs.

GPUs are charged by the pods that are seen, those that terminate included, and by what was granted and is not seen yet:

    charge(replicas) = max(GPUs of pods seen, replicas * GPUs per replica + GPUs of pods that terminate)

Four rules, in this order:
1. Who wants fewer gets it. What that frees counts once its pods are gone, and not before.
2. Nobody loses what it holds because another asks. A budget that was cut below what is held stops all growth until
   enough is given back, and takes nothing: the pods' own laws decide when they may go.
3. A ceiling, of the cluster or of a namespace, is never exceeded by growing, not even for minReplicas or a guarantee.
   A guarantee is reserved: GPUs that a namespace has not used up are lent to no other, since taking them back would
   break rule 2.
4. What is left is shared by water-filling: one replica at a time to the namespace with the least GPUs per weight
   after it, and in it to the deployment with the least, until none fits. A higher weight never gives fewer GPUs.

Worked example (tests/unit/control/test_budget_worked_example.py). 48 GPUs, 8 per replica; a deployment in `gold` of
weight 3 and one in `bronze` of weight 1 hold 1 each and want 6 each. GPUs per weight after the next replica: gold
16/3, bronze 16/1; so gold grows to 5 (40/3 < 16), and then nothing is left: 5 and 1.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush

from shift_operator.api.signals import DeploymentKey
from shift_operator.control.decision import Fact
from shift_operator.control.reasons import ReplicasLimit


@dataclass(frozen=True, slots=True)
class NamespaceBudget:
    """A namespace's share of a policy's GPUs: its ceiling, None without one, what is reserved for it, its weight."""

    max_gpus: int | None = None
    guaranteed_gpus: int = 0
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Budget:
    """A policy's GPUs. `max_gpus` is None where only namespaces have ceilings, or nothing has."""

    max_gpus: int | None = None
    namespaces: Mapping[str, NamespaceBudget] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BudgetAsk:
    """What one deployment holds and wants. All deployments that the policy selects are in, those that never scale too.

    `held` is the number of replicas in force. `seen_gpus` counts the GPUs of its pods, `terminating_gpus` of those
    among them that terminate. `weight` is its priority among those of its namespace, above 0.
    """

    key: DeploymentKey
    held: int
    wanted: int
    gpus_per_replica: int
    seen_gpus: int
    terminating_gpus: int = 0
    weight: float = 1.0

    def charge(self, replicas: int) -> int:
        """GPUs that it takes from the budget with so many replicas."""
        return max(self.seen_gpus, replicas * self.gpus_per_replica + self.terminating_gpus)


@dataclass(frozen=True, slots=True)
class Grant:
    """What one deployment gets, and what kept it from more; `limit` is None where it gets all it wants."""

    replicas: int
    limit: ReplicasLimit | None = None
    evidence: tuple[Fact, ...] = ()


def share_budget(budget: Budget, asks: Iterable[BudgetAsk]) -> Mapping[DeploymentKey, Grant]:
    """Each deployment's replicas. The order of the asks does not matter; their keys must differ."""
    by_key = {ask.key: ask for ask in sorted(asks, key=lambda ask: ask.key)}
    ledger = _Ledger(budget, by_key.values())
    granted = {key: min(ask.held, ask.wanted) for key, ask in by_key.items()}
    limits: dict[DeploymentKey, ReplicasLimit] = {}
    growing: dict[str, list[tuple[float, DeploymentKey]]] = {}
    for key, ask in by_key.items():
        if ask.wanted > granted[key]:
            growing.setdefault(key.namespace, []).append((_level(ask, granted[key] + 1), key))
    for queue in growing.values():
        heapify(queue)

    def namespace_level(namespace: str) -> tuple[float, str]:
        key = growing[namespace][0][1]
        return ledger.level_with(by_key[key], granted[key]), namespace

    namespaces = [namespace_level(namespace) for namespace in growing]
    heapify(namespaces)
    while namespaces:
        _, namespace = heappop(namespaces)
        _, key = heappop(growing[namespace])
        ask = by_key[key]
        limit = ledger.limit_of(ask, granted[key])
        if limit is not None:
            limits[key] = limit
        else:
            ledger.add(ask, granted[key])
            granted[key] += 1
            if granted[key] < ask.wanted:
                heappush(growing[namespace], (_level(ask, granted[key] + 1), key))
        if growing[namespace]:
            heappush(namespaces, namespace_level(namespace))
    return {
        key: Grant(granted[key], limits[key], ledger.evidence(ask, limits[key]))
        if key in limits
        else Grant(granted[key])
        for key, ask in by_key.items()
    }


def _level(ask: BudgetAsk, replicas: int) -> float:
    return replicas * ask.gpus_per_replica / ask.weight


class _Ledger:
    """The GPUs charged so far: by namespace, in all, and in all with what is guaranteed and not used."""

    def __init__(self, budget: Budget, asks: Iterable[BudgetAsk]) -> None:
        self._budget = budget
        self._charged: dict[str, int] = dict.fromkeys(budget.namespaces, 0)
        for ask in asks:
            namespace = ask.key.namespace
            self._charged[namespace] = self._charged.get(namespace, 0) + ask.charge(min(ask.held, ask.wanted))
        self._total = sum(self._charged.values())
        self._reserved = sum(max(gpus, self._own(name).guaranteed_gpus) for name, gpus in self._charged.items())

    def limit_of(self, ask: BudgetAsk, replicas: int) -> ReplicasLimit | None:
        """What forbids one more than `replicas`; None if nothing does."""
        more, most = ask.charge(replicas + 1) - ask.charge(replicas), self._budget.max_gpus
        if more == 0:  # a pod that is still there is kept instead of a new one made
            return None
        own, after = self._own(ask.key.namespace), self._charged[ask.key.namespace] + more
        if own.max_gpus is not None and after > own.max_gpus:
            return ReplicasLimit.NAMESPACE_BUDGET
        if most is not None and self._total + more > most:
            return ReplicasLimit.CLUSTER_BUDGET
        beyond = after > own.guaranteed_gpus
        if most is not None and beyond and self._reserved + self._reserves(ask, more) > most:
            return ReplicasLimit.GUARANTEES
        return None

    def level_with(self, ask: BudgetAsk, replicas: int) -> float:
        """GPUs per weight of the ask's namespace with one more than `replicas`."""
        namespace = ask.key.namespace
        more = ask.charge(replicas + 1) - ask.charge(replicas)
        return (self._charged[namespace] + more) / self._own(namespace).weight

    def add(self, ask: BudgetAsk, replicas: int) -> None:
        """Charge one more than `replicas`."""
        more = ask.charge(replicas + 1) - ask.charge(replicas)
        self._reserved += self._reserves(ask, more)
        self._total += more
        self._charged[ask.key.namespace] += more

    def _reserves(self, ask: BudgetAsk, more: int) -> int:
        """How many of `more` GPUs are not in the namespace's guarantee already."""
        used, guaranteed = self._charged[ask.key.namespace], self._own(ask.key.namespace).guaranteed_gpus
        return max(used + more, guaranteed) - max(used, guaranteed)

    def evidence(self, ask: BudgetAsk, limit: ReplicasLimit) -> tuple[Fact, ...]:
        """The numbers behind a limit once all have got what they get."""
        own, namespace, used = self._own(ask.key.namespace), ask.key.namespace, self._total
        one_more = Fact("one replica takes", f"{ask.gpus_per_replica} GPUs")
        match limit:
            case ReplicasLimit.NAMESPACE_BUDGET:
                return Fact("namespace GPUs", f"{self._charged[namespace]} of {own.max_gpus} in use"), one_more
            case ReplicasLimit.GUARANTEES:
                unused = self._reserved - self._total - max(own.guaranteed_gpus - self._charged[namespace], 0)
                total = f"{used} of {self._budget.max_gpus} in use, {unused} guaranteed to other namespaces"
                return Fact("GPUs", total), one_more
            case _:
                return Fact("GPUs", f"{used} of {self._budget.max_gpus} in use"), one_more

    def _own(self, namespace: str) -> NamespaceBudget:
        return self._budget.namespaces.get(namespace, NamespaceBudget())
