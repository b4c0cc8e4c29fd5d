"""`kubectl exec` over a WebSocket, `v5.channel.k8s.io`: each message's first byte names its stream.

Standard input, output and error are streams 0 to 2, the outcome (a v1.Status) comes on stream 3, window sizes on 4; the
client closes its standard input by the bytes 255, 0. There is no terminal: `-t` gives pipes as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import json

from aiohttp import WSMsgType, web

from localcluster.kubelet import process
from localcluster.kubelet.objects import Json
from localcluster.kubelet.process import Order, StartError

PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
STDIN, STDOUT, STDERR, OUTCOME, CLOSE = 0, 1, 2, 3, 255
CHUNK_BYTES = 32 * 1024


async def converse_over_websocket(request: web.Request, order: Order) -> web.WebSocketResponse:
    """Run the command until it ends or the client goes."""
    socket = web.WebSocketResponse(protocols=PROTOCOLS)
    await socket.prepare(request)
    try:
        running, shim = await process.converse(order)
    except StartError as error:
        await socket.send_bytes(bytes([OUTCOME]) + json.dumps(outcome(126, str(error))).encode())
        await socket.close()
        return socket
    assert shim.stdin
    assert shim.stdout
    assert shim.stderr
    takes = asyncio.create_task(_take(socket, shim.stdin, running))
    try:
        await asyncio.gather(_give(socket, STDOUT, shim.stdout), _give(socket, STDERR, shim.stderr))
        end = await running.ended
        await socket.send_bytes(bytes([OUTCOME]) + json.dumps(outcome(end.code)).encode())
        await socket.close()
    except OSError:
        pass  # the client has gone
    finally:
        takes.cancel()
        running.kill()
        await asyncio.shield(running.ended)
    return socket


def outcome(code: int, message: str = "") -> Json:
    """The v1.Status that tells the client how the command ended."""
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    return {
        "metadata": {},
        "status": "Failure",
        "reason": "NonZeroExitCode",
        "message": message or f"command terminated with non-zero exit code: exit status {code}",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


async def _give(socket: web.WebSocketResponse, stream: int, source: asyncio.StreamReader) -> None:
    while chunk := await source.read(CHUNK_BYTES):
        await socket.send_bytes(bytes([stream]) + chunk)


async def _take(socket: web.WebSocketResponse, sink: asyncio.StreamWriter, running: process.Process) -> None:
    """Standard input; a client that goes ends the command."""
    async for message in socket:
        if message.type is not WSMsgType.BINARY or not message.data:
            continue
        stream, content = message.data[0], message.data[1:]
        with contextlib.suppress(OSError):  # a command may end without reading its input
            if stream == STDIN:
                sink.write(content)
                await sink.drain()
            elif stream == CLOSE and content[:1] == bytes([STDIN]):
                sink.close()
    running.kill()
