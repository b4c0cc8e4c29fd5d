"""Reads and writes of Kubernetes objects: plain dicts in, plain dicts out, errors of ours (`errors.py`).

Writes are server-side applies under one field manager, by force: what `plan` asks for is ours, whoever changed it. The
fields of others stay theirs. Every request goes through `_send`, which owns the timeout, the few quick retries, the
token and the count of requests; whoever wants to try longer than that does so from the work queue.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, NamedTuple, Self

import aiohttp
from kubernetes.aio.client.api_client import ApiClient

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
from shift_operator.cluster.resources import EVENTS, PODS, Resource, resource_of

Body = dict[str, Any]

FIELD_MANAGER = "shift-operator"
TIMEOUT_SECONDS = 10.0
RETRY_SECONDS = (0.2, 1.0)
"""Pauses before the second and third try of a request that found no server, a 5xx, or a short Retry-After."""
PAGE_SIZE = 500
"""Objects per page of a list: bounds what the API server and we hold at once."""

_APPLY = "application/apply-patch+yaml"
_MERGE = "application/merge-patch+json"


class Page(NamedTuple):
    """A part of a list; every part was read at the same resourceVersion, `version`."""

    bodies: list[Body]
    version: int


class Cluster:
    """The API server, as one identity. Close it, or use it as an async context manager.

    `fence` is called before each write and may raise to stop it (a lost lease). `on_request(verb, resource, outcome)`
    is called after each request; outcome is `ok` or the error's class name.
    """

    def __init__(
        self,
        credentials: Credentials,
        *,
        fence: Callable[[], None] = lambda: None,
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
        self, resource: Resource, namespace: str | None = None, label_selector: str = ""
    ) -> AsyncIterator[Page]:
        """The objects of one namespace or of all, in pages of PAGE_SIZE.

        Raises NotFound where the kind does not exist, Expired when a page took too long.
        """
        asked = Request("list", str(resource), namespace)
        query = {"limit": str(PAGE_SIZE)} | ({"labelSelector": label_selector} if label_selector else {})
        while True:
            answer = await self._send(asked, "GET", resource.path(namespace), query=query)
            yield Page(answer.get("items") or [], int(answer["metadata"]["resourceVersion"]))
            if not answer["metadata"].get("continue"):
                return
            query["continue"] = answer["metadata"]["continue"]

    async def apply(self, manifest: Mapping[str, Any]) -> Body:
        """Server-side apply of a child; returns the object as stored. Fields we applied before and now omit go away."""
        metadata = manifest["metadata"]
        resource = resource_of(manifest["apiVersion"], manifest["kind"])
        return await self._apply(resource, metadata["namespace"], metadata["name"], manifest)

    async def apply_status(self, resource: Resource, namespace: str, name: str, status: Mapping[str, Any]) -> Body:
        """Server-side apply of the status subresource. Raises NotFound when the object is gone."""
        body = {
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": {"namespace": namespace, "name": name},
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

    async def _apply(
        self, resource: Resource, namespace: str, name: str, body: Mapping[str, Any], subresource: str | None = None
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
        body: Mapping[str, Any],
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
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
    ) -> Body:
        """Sends a request until it is answered, once, and again after each pause of RETRY_SECONDS.

        All our writes may be sent twice: an apply or merge of the same content changes nothing the second time, and an
        Event created twice is a Conflict, which its writer expects.
        """
        pauses = iter(RETRY_SECONDS)
        fresh_token = False
        while True:
            if method != "GET":
                self._fence()
            try:
                answer = await self._send_once(asked, method, path, query, body, content_type, fresh_token)
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
        body: Mapping[str, Any] | None,
        content_type: str,
        fresh_token: bool,
    ) -> Body:
        headers = {"Accept": "application/json", "Content-Type": content_type}
        try:
            token = self._credentials.token(fresh=fresh_token)
            if token is not None:
                headers["authorization"] = f"Bearer {token}"
            request = await self._api.param_serialize(
                method, path, query_params=list((query or {}).items()), header_params=headers, body=body
            )
            response = await self._api.call_api(
                *request, _request_timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS, sock_connect=5.0)
            )
            data: bytes = await response.read()  # type: ignore[no-untyped-call]
        except TimeoutError as error:
            raise Unreachable(asked, f"no answer within {TIMEOUT_SECONDS:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Unreachable(asked, str(error) or type(error).__name__) from error
        answer = _parsed(data)
        if response.status >= 400:
            raise error_from(asked, response.status, answer, response.headers.get("Retry-After"))
        if isinstance(answer, str):
            raise ServerError(asked, f"HTTP {response.status} without JSON: {answer[:200]}", response.status)
        return answer


def _is_worth_another_try(error: ClusterError, pause: float) -> bool:
    return isinstance(error, Unreachable | ServerError) or (isinstance(error, Throttled) and error.after <= pause)


def _parsed(data: bytes) -> Body | str:
    """The answer's JSON object, or its text where it is none."""
    try:
        answer = json.loads(data)
    except ValueError:
        return data.decode("utf-8", errors="replace")
    return answer if isinstance(answer, dict) else str(answer)
