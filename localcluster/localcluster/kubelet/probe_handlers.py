"""One look at a container: HTTP, TCP or a command. Also the hooks' HTTP request, which has the same form."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import aiohttp

from localcluster.kubelet.objects import Json

BODY_BYTES = 10 * 1024
USER_AGENT = "kube-probe/1.37"
Execute = Callable[[list[str], float], Awaitable[tuple[int, str]]]
"""Runs a command in the container for at most so many seconds: (exit code, output). Raises TimeoutError."""


@dataclass(frozen=True)
class Look:
    """Whether it was a success, and what was seen."""

    success: bool
    seen: str


@dataclass(frozen=True)
class Target:
    """The container that is looked at."""

    container: Json
    address: str
    execute: Execute


async def look(handler: Json, target: Target, limit: float) -> Look:
    """Carry out a probe's handler. Never raises for what the container does; its failure is the answer."""
    try:
        if "exec" in handler:
            code, output = await target.execute(handler["exec"]["command"], limit)
            return Look(code == 0, output.strip())
        if "httpGet" in handler:
            return await http_get(handler["httpGet"], target, limit)
        if "tcpSocket" in handler:
            return await _tcp(handler["tcpSocket"], target, limit)
        return Look(False, f"probe handler {sorted(handler)} is not supported here; use exec, httpGet or tcpSocket")
    except PortError as error:
        return Look(False, str(error))
    except TimeoutError:
        return Look(False, f"command timed out after {limit:g}s" if "exec" in handler else "context deadline exceeded")


async def http_get(action: Json, target: Target, limit: float) -> Look:
    """Success is a status from 200 to 399, after redirects."""
    scheme = action.get("scheme", "HTTP").lower()
    host = action.get("host") or target.address
    port = port_number(action["port"], target.container)
    path = action.get("path", "/")
    url = f"{scheme}://{host}:{port}{path if path.startswith('/') else '/' + path}"
    headers = {"User-Agent": USER_AGENT, "Accept": "*/*", "Connection": "close"}
    headers |= {header["name"]: header["value"] for header in action.get("httpHeaders", [])}
    session = aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=limit), connector=aiohttp.TCPConnector(ssl=False)
    )
    try:
        async with session, session.get(url, headers=headers) as response:
            body = (await response.content.read(BODY_BYTES)).decode(errors="replace")
            if 200 <= response.status < 400:
                return Look(True, body)
            return Look(False, f"HTTP probe failed with statuscode: {response.status}")
    except aiohttp.ClientConnectorError as error:
        return Look(False, f'Get "{url}": dial tcp {host}:{port}: connect: {_reason(error.os_error)}')
    except (aiohttp.ClientError, ValueError) as error:
        return Look(False, f'Get "{url}": {error}')
    except TimeoutError:
        return Look(False, f'Get "{url}": context deadline exceeded (Client.Timeout exceeded while awaiting headers)')


async def _tcp(action: Json, target: Target, limit: float) -> Look:
    host, port = action.get("host") or target.address, port_number(action["port"], target.container)
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(host, port), limit)
    except OSError as error:
        return Look(False, f"dial tcp {host}:{port}: connect: {_reason(error)}")
    except TimeoutError:
        return Look(False, f"dial tcp {host}:{port}: i/o timeout")
    writer.close()
    return Look(True, "")


def _reason(error: OSError) -> str:
    return os.strerror(error.errno).lower() if error.errno else str(error)


class PortError(Exception):
    """A port's name is not among the container's."""


def port_number(port: int | str, container: Json) -> int:
    """A number, a number as text, or the name of one of the container's ports."""
    if isinstance(port, int) or port.isdigit():
        return int(port)
    for declared in container.get("ports", []):
        if declared.get("name") == port:
            return int(declared["containerPort"])
    raise PortError(f'couldn\'t find port: "{port}" in container {container["name"]}')
