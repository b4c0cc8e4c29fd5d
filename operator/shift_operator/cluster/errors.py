"""What can go wrong between us and the API server, one class per way a caller would act on it.

    ClusterError
    ├── Unreachable            no answer: refused, reset, timed out, TLS; try again later
    ├── ServerError(status)    an answer 5xx, or a 403 of a server that has just started: try again later
    ├── Throttled(after)       429, or 503 with Retry-After: try again after that many seconds
    ├── Unauthorized           401 with fresh credentials: we are nobody here
    ├── Forbidden              403: we may not `verb` this `resource`; only an administrator changes that
    │   └── NamespaceEnding    403 for a create in a namespace under deletion: nothing to do any more
    ├── NotFound               404: no such object, or no such kind
    ├── Conflict               409: it exists already, or changed since we read it; read again
    ├── Expired                410: that resourceVersion is history; list again
    ├── Invalid(field, rule)   400 and 422: the API server's validation refused what we sent
    ├── Refused(status)        any other 4xx: a request that we should not have made
    ├── LeaseLost              not sent: another process may write by now, and this one must not any more
    └── ServedByAnother        not sent: another install of the operator writes in this namespace

`error_from` is the only place that knows status codes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Request:
    """Which request failed: `verb` in RBAC's words (get, list, create, update), `resource` as `deployments.apps`."""

    verb: str
    resource: str
    namespace: str | None = None
    name: str | None = None

    def __str__(self) -> str:
        place = "/".join(part for part in (self.namespace, self.name) if part)
        return " ".join(part for part in (self.verb, self.resource, place) if part)


class ClusterError(Exception):
    """The API server did not do what we asked. Its text says which request and why."""

    def __init__(self, request: Request, why: str) -> None:
        super().__init__(f"{request}: {why}")
        self.request = request
        self.why = why


class Unreachable(ClusterError):
    """No answer from the API server."""


class ServerError(ClusterError):
    """The API server could not answer as it should."""

    def __init__(self, request: Request, why: str, status: int) -> None:
        super().__init__(request, why)
        self.status = status


class Throttled(ClusterError):
    """The API server asked us to come again after `after` seconds."""

    def __init__(self, request: Request, why: str, after: float) -> None:
        super().__init__(request, why)
        self.after = after


class Unauthorized(ClusterError):
    """The API server does not accept our credentials, not even freshly read ones."""


class Forbidden(ClusterError):
    """RBAC or an admission rule does not let us `verb` this `resource`."""

    @property
    def verb(self) -> str:
        return self.request.verb

    @property
    def resource(self) -> str:
        return self.request.resource


class NamespaceEnding(Forbidden):
    """The namespace is being deleted; no object can be created in it."""


class NotFound(ClusterError):
    """There is no such object; on a list, no such kind (its CRD is not installed)."""


class Conflict(ClusterError):
    """The object exists already or is not the one we had in mind."""


class Expired(ClusterError):
    """The resourceVersion we named is too old."""


class Invalid(ClusterError):
    """The API server's validation refused the object: `field` broke `rule`."""

    def __init__(self, request: Request, why: str, field: str, rule: str) -> None:
        super().__init__(request, why)
        self.field = field
        self.rule = rule


class Refused(ClusterError):
    """A 4xx that no correct request of ours gets (405, 406, 413, 415, ...)."""

    def __init__(self, request: Request, why: str, status: int) -> None:
        super().__init__(request, why)
        self.status = status


class LeaseLost(ClusterError):
    """Our lease is another's, or so old that it may be soon. Nothing may be written any more; the process ends."""


class ServedByAnother(ClusterError):
    """Another install of the operator serves this namespace. What it writes there is not for us to write."""


# An API server that has just started refuses everything until it has read its roles. This one every cluster has.
_COLD_RBAC = '"system:basic-user" not found'
_SECONDS_IF_UNSAID = 1.0  # the API server's own default where a 429 has no Retry-After


def error_from(request: Request, status: int, answer: Mapping[str, Any] | str, retry_after: str | None) -> ClusterError:
    """The error for an answer with `status` >= 400.

    `answer` is the Kubernetes Status object, or the text where it was none (a proxy's page); of text only the head is
    kept. `retry_after` is the Retry-After header; a date in it counts as unsaid.
    """
    why = _why(status, answer)
    match status:
        case 401:
            return Unauthorized(request, why)
        case 403 if _first_cause(answer).get("reason") == "NamespaceTerminating":
            return NamespaceEnding(request, why)
        case 403 if _COLD_RBAC in why:
            return ServerError(request, why, status)
        case 403:
            return Forbidden(request, why)
        case 404:
            return NotFound(request, why)
        case 409:
            return Conflict(request, why)
        case 410:
            return Expired(request, why)
        case 400 | 422:
            cause = _first_cause(answer)
            return Invalid(request, why, field=cause.get("field", ""), rule=cause.get("message", why))
        case 429:
            return Throttled(request, why, _seconds(retry_after))
        case 503 if retry_after is not None:
            return Throttled(request, why, _seconds(retry_after))
        case _ if status >= 500:
            return ServerError(request, why, status)
        case _:
            return Refused(request, why, status)


def _why(status: int, answer: Mapping[str, Any] | str) -> str:
    if isinstance(answer, str):
        head = " ".join(answer.split())[:200]
        return f"HTTP {status}: {head}" if head else f"HTTP {status}"
    return str(answer.get("message") or f"HTTP {status}")


def _first_cause(answer: Mapping[str, Any] | str) -> Mapping[str, str]:
    if isinstance(answer, str):
        return {}
    causes = (answer.get("details") or {}).get("causes") or [{}]
    cause: Mapping[str, str] = causes[0]
    return cause


def _seconds(retry_after: str | None) -> float:
    try:
        return max(0.0, float(retry_after)) if retry_after is not None else _SECONDS_IF_UNSAID
    except ValueError:
        return _SECONDS_IF_UNSAID
