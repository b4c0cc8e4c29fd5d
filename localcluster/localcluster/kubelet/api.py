"""A small client of the API server: JSON over HTTPS with the kubeconfig's certificate, and watches.

Errors: `ApiError` when the server refuses, aiohttp's own when it cannot be reached. Retries are the caller's business.
"""

from __future__ import annotations

import base64
import json
import ssl
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import aiohttp
import yaml

from localcluster.kubelet.objects import Json

PatchType = Literal["merge", "strategic-merge"]
USER_AGENT = "localcluster-kubelet"
MAX_LINE_BYTES = 16 * 2**20


class ApiError(Exception):
    """The API server's Status: HTTP code, reason (`NotFound`, `Conflict`, `Expired`, ...) and message."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(f"{code} {reason}: {message}")
        self.code, self.reason, self.message = code, reason, message

    @classmethod
    def of(cls, status: Json, code: int) -> ApiError:
        return cls(int(status.get("code", code)), str(status.get("reason", "")), str(status.get("message", "")))


@dataclass(frozen=True)
class Credentials:
    """Where the API server is and how to prove who we are."""

    server: str
    tls: ssl.SSLContext | Literal[True]
    token: str | None

    @classmethod
    def from_kubeconfig(cls, path: Path) -> Credentials:
        """The current context. Certificates may stand in files (relative to the kubeconfig) or in the file itself."""
        config = yaml.safe_load(path.read_text())
        context = _named(config, "contexts", config["current-context"])["context"]
        cluster = _named(config, "clusters", context["cluster"])["cluster"]
        user = _named(config, "users", context["user"])["user"]
        tls: ssl.SSLContext | Literal[True] = True
        if cluster["server"].startswith("https:"):
            authority = _content(cluster, "certificate-authority", path)
            tls = ssl.create_default_context(cadata=authority.decode() if authority else None)
            certificate, key = _content(user, "client-certificate", path), _content(user, "client-key", path)
            if certificate and key:
                with tempfile.NamedTemporaryFile() as file:  # mode 0600; ssl reads certificates from files only
                    file.write(certificate + b"\n" + key)
                    file.flush()
                    tls.load_cert_chain(file.name)
        return cls(cluster["server"].rstrip("/"), tls, user.get("token"))


def _named(config: Json, kind: str, name: str) -> Json:
    for entry in config.get(kind, []):
        if entry["name"] == name:
            return dict(entry)
    raise ValueError(f"kubeconfig: {kind}: no entry named {name!r}")


def _content(entry: Json, field: str, kubeconfig: Path) -> bytes | None:
    if inline := entry.get(f"{field}-data"):
        return base64.b64decode(inline)
    if name := entry.get(field):
        return (kubeconfig.parent / str(name)).read_bytes()
    return None


class Api:
    """`async with Api(credentials) as api`. Paths are the API's own: `/api/v1/namespaces/default/pods/web`."""

    def __init__(self, credentials: Credentials) -> None:
        self.credentials = credentials
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        headers = {"User-Agent": USER_AGENT, "Accept": "application/json"}
        if self.credentials.token:
            headers["Authorization"] = f"Bearer {self.credentials.token}"
        self._http = aiohttp.ClientSession(
            headers=headers,
            connector=aiohttp.TCPConnector(ssl=self.credentials.tls, limit=0),
            timeout=aiohttp.ClientTimeout(total=30),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.http.close()

    @property
    def http(self) -> aiohttp.ClientSession:
        if self._http is None:
            raise RuntimeError("the API client is used outside of `async with`")
        return self._http

    async def get(self, path: str, **params: str) -> Json:
        return await self._request("GET", path, params=params)

    async def create(self, path: str, body: Json) -> Json:
        return await self._request("POST", path, body=body)

    async def patch(self, path: str, body: Json, kind: PatchType = "merge") -> Json:
        return await self._request("PATCH", path, body=body, content_type=f"application/{kind}-patch+json")

    async def delete(self, path: str, body: Json) -> Json:
        return await self._request("DELETE", path, body=body)

    async def _request(
        self,
        verb: str,
        path: str,
        *,
        params: dict[str, str] | None = None,
        body: Json | None = None,
        content_type: str = "application/json",
    ) -> Json:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": content_type} if data else {}
        url = self.credentials.server + path
        async with self.http.request(verb, url, params=params or {}, data=data, headers=headers) as response:
            answer: Any = await response.json(content_type=None) if response.content_type == "application/json" else {}
            if response.status >= 400:
                raise ApiError.of(answer, response.status)
            return dict(answer)

    async def watch(self, path: str, params: dict[str, str]) -> AsyncIterator[tuple[str, Json]]:
        """Yields (ADDED | MODIFIED | DELETED | BOOKMARK, object) until the server ends it. Raises ApiError."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=330)
        url = self.credentials.server + path
        async with self.http.get(url, params={**params, "watch": "1"}, timeout=timeout) as response:
            if response.status >= 400:
                raise ApiError.of(await response.json(content_type=None), response.status)
            rest = b""
            async for chunk in response.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                if len(rest) > MAX_LINE_BYTES:
                    raise ApiError(0, "TooLong", f"watch {path}: an event is longer than {MAX_LINE_BYTES} bytes")
                for line in lines:
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        raise ApiError.of(event["object"], 0)
                    yield event["type"], event["object"]
