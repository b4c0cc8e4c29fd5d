"""Reads and writes of Kubernetes objects: plain dicts in, plain dicts out, errors of ours (`errors.py`).

Writes are server-side applies under one field manager, by force: what `plan` asks for is ours, whoever changed it. The
fields of others stay theirs. Every request goes through `_send`, which owns the timeout, the few quick retries, the
token and the count of requests; whoever wants to try longer than that does so from the work queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, NamedTuple, Self

import aiohttp
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.rest import RESTResponse

from shift_operator import __version__
from shift_operator.cluster.credentials import Credentials
from shift_operator.cluster.errors import (
    ClusterError,
    Request,
    ServerError,
    Throttled,
    Unauthorized,
    Unreachable,
    error_from,
)
from shift_operator.cluster.resources import EVENTS, LEASES, PODS, Resource, resource_of

Body = dict[str, Any]
Sent = Mapping[str, Any] | Sequence[Mapping[str, Any]]
"""An object, a part of one, or a JSON patch."""

FIELD_MANAGER = "shift-operator"
TIMEOUT_SECONDS = 10.0
RETRY_SECONDS = (0.2, 1.0)
"""Pauses before the second and third try of a request that found no server, a 5xx, or a short Retry-After."""
WATCH_SECONDS = 240
"""How long the API server keeps a watch of ours open."""
PAGE_SIZE = 200
"""Objects per page of a list: bounds what the API server and we hold at once."""

_NO_OBJECTS = "1"
"""A resourceVersion that no object has: etcd's revision before its first write. An apply that names a version is
refused where the object has another one, and creates the object where there is none."""
_APPLY = "application/apply-patch+yaml"
_MERGE = "application/merge-patch+json"
_JSON_PATCH = "application/json-patch+json"


class Page(NamedTuple):
    """A part of a list; every part was read at the same resourceVersion, `version`."""

    bodies: list[Body]
    version: int


class Cluster:
    """The API server, as one identity. Close it, or use it as an async context manager.

    `fence(request)` is called before each write: it gives the seconds that the write may take at most, or raises to
    stop it (a lost lease, another's namespace). `on_request(verb, resource, outcome)`
    is called after each request; outcome is `ok` or the error's class name.
    """

    def __init__(
        self,
        credentials: Credentials,
        *,
        fence: Callable[[Request], float] = lambda asked: TIMEOUT_SECONDS,
        on_request: Callable[[str, str, str], None] = lambda verb, resource, outcome: None,
    ) -> None:
        # The API server is reached directly unless the kubeconfig names a proxy, as kopf's watches do.
        credentials.configuration.client_session_kwargs = {"trust_env": False}
        self._api = ApiClient(credentials.configuration)
        self._api.user_agent = f"{FIELD_MANAGER}/{__version__}"
        self._credentials = credentials
        self._fence = fence
        self._on_request = on_request

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._api.close()  # type: ignore[no-untyped-call]

    async def get(self, resource: Resource, namespace: str, name: str) -> Body:
        """The object as it is now. Raises NotFound."""
        return await self._send(Request("get", str(resource), namespace, name), "GET", resource.path(namespace, name))

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        label_selector: str = "",
        field_selector: str = "",
    ) -> AsyncIterator[Page]:
        """The objects of one namespace or of all, in pages of PAGE_SIZE.

        Raises NotFound where the kind does not exist, Expired when a page took too long.
        """
        asked = Request("list", str(resource), namespace)
        selectors = {"labelSelector": label_selector, "fieldSelector": field_selector}
        query = {"limit": str(PAGE_SIZE)} | {name: selector for name, selector in selectors.items() if selector}
        while True:
            answer = await self._send(asked, "GET", resource.path(namespace), query=query)
            yield Page(answer.get("items") or [], int(answer["metadata"]["resourceVersion"]))
            if not answer["metadata"].get("continue"):
                return
            query["continue"] = answer["metadata"]["continue"]

    async def watch(
        self, resource: Resource, namespace: str | None, label_selector: str, version: int
    ) -> AsyncIterator[tuple[str, Body]]:
        """Changes after `version`, as (ADDED, MODIFIED or DELETED; object), until the server ends it after a while.

        Raises Expired when `version` is history, NotFound where the kind does not exist (any more).
        """
        asked = Request("watch", str(resource), namespace)
        query = {"watch": "true", "resourceVersion": str(version), "timeoutSeconds": str(WATCH_SECONDS)}
        if label_selector:
            query["labelSelector"] = label_selector
        try:
            response = await self._open("GET", resource.path(namespace), query, seconds=WATCH_SECONDS + TIMEOUT_SECONDS)
            with contextlib.closing(response.response):  # a watch that fails half-way leaves no connection behind
                if response.status >= 400:
                    answer = _parsed(await response.read())  # type: ignore[no-untyped-call]
                    raise error_from(asked, response.status, answer, response.headers.get("Retry-After"))
                rest = b""
                async for data in response.response.content.iter_any():
                    *lines, rest = (rest + data).split(b"\n")
                    for event in map(json.loads, lines):
                        if event["type"] == "ERROR":
                            raise error_from(asked, event["object"].get("code", 500), event["object"], None)
                        yield event["type"], event["object"]
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Unreachable(asked, str(error) or type(error).__name__) from error

    async def apply(self, manifest: Mapping[str, Any]) -> Body:
        """Server-side apply of a child or a profile; returns the object as stored.

        Fields we applied before and now omit go away.
        """
        metadata = manifest["metadata"]
        resource = resource_of(manifest["apiVersion"], manifest["kind"])
        return await self._apply(resource, metadata.get("namespace"), metadata["name"], manifest)

    async def create(self, manifest: Mapping[str, Any]) -> Body:
        """`apply` of a child that must not be there yet. Raises Conflict where an object of that name is, untouched."""
        return await self.apply({**manifest, "metadata": {**manifest["metadata"], "resourceVersion": _NO_OBJECTS}})

    async def delete(self, resource: Resource, body: Mapping[str, Any]) -> None:
        """Deletes an object as it was last seen. Raises Conflict when it changed since, NotFound when it is gone."""
        metadata = body["metadata"]
        asked = Request("delete", str(resource), metadata["namespace"], metadata["name"])
        seen = {key: metadata[key] for key in ("uid", "resourceVersion")}
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": seen}
        path = resource.path(metadata["namespace"], metadata["name"])
        await self._write(asked, "DELETE", path, options, query={})

    async def remove_fields(
        self, resource: Resource, namespace: str, name: str, operations: Sequence[Mapping[str, Any]]
    ) -> Body:
        """A JSON patch of `test` and `remove`, for what no apply can take away since it is not ours. Raises Invalid
        where a test fails, NotFound when the object is gone."""
        asked = Request("patch", str(resource), namespace, name)
        path, query = resource.path(namespace, name), {"fieldManager": FIELD_MANAGER}
        return await self._write(asked, "PATCH", path, list(operations), query=query, content_type=_JSON_PATCH)

    async def apply_status(
        self, resource: Resource, namespace: str | None, name: str, status: Mapping[str, Any]
    ) -> Body:
        """Server-side apply of the status subresource. Raises NotFound when the object is gone.

        `namespace` is None for an object of the whole cluster.
        """
        body = {
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": {"name": name} | ({"namespace": namespace} if namespace else {}),
            "status": status,
        }
        return await self._apply(resource, namespace, name, body, subresource="status")

    async def annotate_pod(self, namespace: str, name: str, annotations: Mapping[str, str]) -> Body:
        """Sets annotations of a pod and leaves its others. Raises NotFound when the pod is gone."""
        return await self._write(
            Request("patch", str(PODS), namespace, name),
            "PATCH",
            PODS.path(namespace, name),
            {"metadata": {"annotations": dict(annotations)}},
            query={"fieldManager": FIELD_MANAGER},
            content_type=_MERGE,
        )

    async def create_event(self, namespace: str, event: Mapping[str, Any]) -> Body:
        """Creates an events.k8s.io/v1 Event. Raises Conflict when one of that name exists."""
        asked = Request("create", str(EVENTS), namespace, event["metadata"]["name"])
        return await self._write(asked, "POST", EVENTS.path(namespace), event, query={"fieldManager": FIELD_MANAGER})

    async def patch_event(self, namespace: str, name: str, changes: Mapping[str, Any]) -> Body:
        """Merges `changes` (its series) into an Event. Raises NotFound once the API server has forgotten it."""
        asked = Request("patch", str(EVENTS), namespace, name)
        path, query = EVENTS.path(namespace, name), {"fieldManager": FIELD_MANAGER}
        return await self._write(asked, "PATCH", path, changes, query=query, content_type=_MERGE)

    async def create_lease(self, lease: Mapping[str, Any]) -> Body:
        """Creates a Lease. Raises Conflict when one of that name exists."""
        metadata = lease["metadata"]
        asked = Request("create", str(LEASES), metadata["namespace"], metadata["name"])
        path, query = LEASES.path(metadata["namespace"]), {"fieldManager": FIELD_MANAGER}
        return await self._write(asked, "POST", path, lease, query=query)

    async def replace_lease(self, lease: Mapping[str, Any]) -> Body:
        """Replaces a Lease that was read before. Raises Conflict when it changed since, NotFound when it is gone."""
        metadata = lease["metadata"]
        asked = Request("update", str(LEASES), metadata["namespace"], metadata["name"])
        path, query = LEASES.path(metadata["namespace"], metadata["name"]), {"fieldManager": FIELD_MANAGER}
        return await self._write(asked, "PUT", path, lease, query=query)

    async def _apply(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        body: Mapping[str, Any],
        subresource: str | None = None,
    ) -> Body:
        asked = Request("patch", f"{resource}/{subresource}" if subresource else str(resource), namespace, name)
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        path = resource.path(namespace, name, subresource)
        return await self._write(asked, "PATCH", path, body, query=query, content_type=_APPLY)

    async def _write(
        self,
        asked: Request,
        method: str,
        path: str,
        body: Sent,
        *,
        query: Mapping[str, str],
        content_type: str = "application/json",
    ) -> Body:
        return await self._send(asked, method, path, query=query, body=body, content_type=content_type)

    async def _send(
        self,
        asked: Request,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Sent | None = None,
        content_type: str = "application/json",
    ) -> Body:
        """Sends a request until it is answered, once, and again after each pause of RETRY_SECONDS.

        All our writes may be sent twice: an apply or merge of the same content changes nothing the second time; an
        Event created twice or a Lease replaced twice is a Conflict, an object deleted twice NotFound: their writers
        expect it.
        """
        pauses = iter(RETRY_SECONDS)
        fresh_token = False
        while True:
            seconds = TIMEOUT_SECONDS if method == "GET" else min(TIMEOUT_SECONDS, self._fence(asked))
            try:
                answer = await self._send_once(asked, method, path, query, body, content_type, fresh_token, seconds)
            except ClusterError as error:
                self._on_request(asked.verb, asked.resource, type(error).__name__)
                if isinstance(error, Unauthorized) and not fresh_token:
                    fresh_token = True
                    continue
                pause = next(pauses, None)
                if pause is None or not _is_worth_another_try(error, pause):
                    raise
                await asyncio.sleep(pause)
            else:
                self._on_request(asked.verb, asked.resource, "ok")
                return answer

    async def _send_once(
        self,
        asked: Request,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Sent | None,
        content_type: str,
        fresh_token: bool,
        seconds: float,
    ) -> Body:
        try:
            response = await self._open(method, path, query, body, content_type, fresh_token, seconds)
            data: bytes = await response.read()  # type: ignore[no-untyped-call]
        except TimeoutError as error:
            raise Unreachable(asked, f"no answer within {seconds:.3g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Unreachable(asked, str(error) or type(error).__name__) from error
        answer = _parsed(data)
        if response.status >= 400:
            raise error_from(asked, response.status, answer, response.headers.get("Retry-After"))
        if isinstance(answer, str):
            raise ServerError(asked, f"HTTP {response.status} without JSON: {answer[:200]}", response.status)
        return answer

    async def _open(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Sent | None = None,
        content_type: str = "application/json",
        fresh_token: bool = False,
        seconds: float = TIMEOUT_SECONDS,
    ) -> RESTResponse:
        """The answer's head; its body is still to be read. Raises aiohttp's errors, OSError and TimeoutError."""
        headers = {"Accept": "application/json", "Content-Type": content_type}
        token = self._credentials.token(fresh=fresh_token)
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        request = await self._api.param_serialize(
            method, path, query_params=list((query or {}).items()), header_params=headers, body=body
        )
        return await self._api.call_api(
            *request, _request_timeout=aiohttp.ClientTimeout(total=seconds, sock_connect=5.0)
        )


def _is_worth_another_try(error: ClusterError, pause: float) -> bool:
    return isinstance(error, Unreachable | ServerError) or (isinstance(error, Throttled) and error.after <= pause)


def _parsed(data: bytes) -> Body | str:
    """The answer's JSON object, or its text where it is none."""
    try:
        answer = json.loads(data)
    except ValueError:
        return data.decode("utf-8", errors="replace")
    return answer if isinstance(answer, dict) else str(answer)
