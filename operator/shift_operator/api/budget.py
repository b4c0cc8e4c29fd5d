"""How many GPUs the deployments of a policy may hold, and how namespaces share them."""

from typing import Annotated

from pydantic import ConfigDict, Field

from shift_operator.api.base import ApiType, Rule, keyed_by, with_rules

MAX_BUDGET_GPUS = 1_000_000

Namespace = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]


class NamespaceShare(ApiType):
    """What one namespace gets of the policy's GPUs."""

    model_config = ConfigDict(
        json_schema_extra=with_rules(
            Rule(
                rule="!has(self.maxGPUs) || self.guaranteedGPUs <= self.maxGPUs",
                message_expression=(
                    "'budget.namespaces: %s has guaranteedGPUs %d above maxGPUs %d; lower guaranteedGPUs or raise "
                    "maxGPUs'.format([self.__namespace__, self.guaranteedGPUs, self.maxGPUs])"
                ),
                field=".guaranteedGPUs",
            )
        )
    )

    namespace: Namespace
    """The namespace. One of selector.namespaces where that names any."""

    max_gpus: Annotated[int | None, Field(ge=0, le=MAX_BUDGET_GPUS, alias="maxGPUs")] = None
    """The most GPUs that the namespace's deployments may hold. Unit: GPUs. Default: no limit but the policy's. Takes
    effect with the next decision. Example: 16 allows two replicas of 8. Replicas that are ending count until they are
    gone."""

    guaranteed_gpus: Annotated[int, Field(ge=0, le=MAX_BUDGET_GPUS, alias="guaranteedGPUs")] = 0
    """GPUs that other namespaces' growth leaves to this one, used or not. Unit: GPUs. Default: {default}. Takes effect
    with the next decision. Example: 8 keeps room for one replica of 8. At most maxGPUs, and all namespaces' together at
    most budget.maxGPUs."""

    weight: Annotated[int, Field(ge=1, le=1000)] = 1
    """The namespace's part of what is left when not all can have what they want. Unit: parts. Default: {default}. Takes
    effect with the next decision. Example: 3 beside a namespace of 1 gets three of every four GPUs."""


class Budget(ApiType):
    """How many GPUs the policy's deployments may hold, and how namespaces share them."""

    model_config = ConfigDict(
        json_schema_extra=with_rules(
            Rule(
                rule="!has(self.namespaces) || self.namespaces.map(n, n.guaranteedGPUs).sum() <= self.maxGPUs",
                message_expression=(
                    "'budget: the guaranteedGPUs of all namespaces are %d, maxGPUs is %d; lower some, or raise "
                    "maxGPUs'.format([self.namespaces.map(n, n.guaranteedGPUs).sum(), self.maxGPUs])"
                ),
                field=".maxGPUs",
            )
        )
    )

    max_gpus: Annotated[int, Field(ge=0, le=MAX_BUDGET_GPUS, alias="maxGPUs")]
    """The most GPUs that all deployments of the policy may hold together. Unit: GPUs. Takes effect with the next
    decision. Example: 48 with replicas of 8 allows six. Replicas that are ending count until they are gone."""

    namespaces: Annotated[
        tuple[NamespaceShare, ...], Field(max_length=64, json_schema_extra=keyed_by("namespace"))
    ] = ()
    """What single namespaces get of it. Default: they share it with equal weights. Takes effect with the next
    decision."""
