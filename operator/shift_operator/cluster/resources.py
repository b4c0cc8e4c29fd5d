"""The kinds we read and write, and where the API server serves them."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote


@dataclass(frozen=True)
class Resource:
    """A kind as the API server serves it; `plural` and `group` together are RBAC's name for it."""

    group: str
    version: str
    kind: str
    plural: str

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def __str__(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """The URL path of an object, or of a collection where `name` is None; without namespace, of all namespaces."""
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        if namespace is not None:
            parts += ["namespaces", namespace]
        parts += [part for part in (self.plural, name, subresource) if part is not None]
        return "/" + "/".join(quote(part, safe="") for part in parts)


SHIFT_DEPLOYMENTS = Resource("shiftparallel.io", "v1alpha1", "ShiftDeployment", "shiftdeployments")
DEPLOYMENTS = Resource("apps", "v1", "Deployment", "deployments")
SERVICES = Resource("", "v1", "Service", "services")
CONFIG_MAPS = Resource("", "v1", "ConfigMap", "configmaps")
SERVICE_ACCOUNTS = Resource("", "v1", "ServiceAccount", "serviceaccounts")
PODS = Resource("", "v1", "Pod", "pods")
EVENTS = Resource("events.k8s.io", "v1", "Event", "events")

CHILDREN = (DEPLOYMENTS, SERVICES, CONFIG_MAPS, SERVICE_ACCOUNTS)
"""The kinds of a ShiftDeployment's children, in the order of the API's documentation."""

WATCHED = (SHIFT_DEPLOYMENTS, *CHILDREN, PODS)
"""Every kind whose objects we keep in memory."""


def resource_of(api_version: str, kind: str) -> Resource:
    """The resource of a manifest. Raises KeyError for a kind that we never write."""
    return _BY_KIND[(api_version, kind)]


_BY_KIND = {(resource.api_version, resource.kind): resource for resource in WATCHED}
