"""Reads container logs for `kubectl logs`: tail, since, follow, over a rotation. The shim writes them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

from localcluster.kubelet.objects import seconds_of

FOLLOW_SECONDS = 0.2
"""How often a followed log is looked at."""


@dataclass(frozen=True)
class LogOptions:
    """PodLogOptions as the API server passes them on; `since` is in Unix seconds."""

    follow: bool = False
    timestamps: bool = False
    tail: int | None = None
    since: float | None = None
    limit_bytes: int | None = None


def text_of(entry: bytes, options: LogOptions) -> bytes:
    """A line of the file -> what the reader sees; empty if it is older than `since` or no entry. Pure."""
    time, _, rest = entry.partition(b" ")
    _stream, _, rest = rest.partition(b" ")
    tag, space, line = rest.partition(b" ")
    if not space:
        return b""
    if options.since is not None and seconds_of(time.decode()) < options.since:
        return b""
    if tag == b"P":
        line = line.rstrip(b"\n")
    return time + b" " + line if options.timestamps else line


def tail(path: Path, count: int, end: int | None = None) -> list[bytes]:
    """The last `count` entries before byte `end` of a file (its end if None), read backwards."""
    with path.open("rb") as file:
        at = file.seek(0, os.SEEK_END) if end is None else end
        block = b""
        while at > 0 and block.count(b"\n") <= count:
            size = min(65536, at)
            at = file.seek(at - size)
            block = file.read(size) + block
    return block.splitlines(keepends=True)[-count:] if count else []


def last_lines(path: Path, lines: int, limit_bytes: int) -> str:
    """The end of a log as plain text, for a termination message."""
    if not path.exists():
        return ""
    text = b"".join(text_of(entry, LogOptions()) for entry in tail(path, lines))
    return text[-limit_bytes:].decode(errors="replace")


async def read(path: Path, options: LogOptions, *, ended: Callable[[], bool]) -> AsyncGenerator[bytes, None]:
    """Chunks of the log. With `follow` it goes on until `ended()` and all was read."""
    left = options.limit_bytes
    async with aclosing(_chunks(path, options, ended)) as chunks:
        async for chunk in chunks:
            part = chunk if left is None else chunk[:left]
            if part:
                yield part
            if left is not None:
                left -= len(part)
                if left == 0:
                    return


async def _chunks(path: Path, options: LogOptions, ended: Callable[[], bool]) -> AsyncGenerator[bytes, None]:
    while not path.exists():
        if not options.follow or ended():
            return
        await asyncio.sleep(FOLLOW_SECONDS)
    file = path.open("rb", buffering=0)
    try:
        if options.tail is not None:
            entries = tail(path, options.tail, file.seek(0, os.SEEK_END))
            yield b"".join(text_of(entry, options) for entry in entries)
        while True:
            over = ended()  # asked before reading: what is written until then is read
            for chunk in _new(file.fileno(), options):
                yield chunk
            if not options.follow or over:
                return
            if path.exists() and path.stat().st_ino != os.fstat(file.fileno()).st_ino:
                for chunk in _new(file.fileno(), options):  # written between the last read and the rotation
                    yield chunk
                file.close()
                file = path.open("rb", buffering=0)
                continue
            await asyncio.sleep(FOLLOW_SECONDS)
    finally:
        file.close()


def _new(fd: int, options: LogOptions) -> Iterator[bytes]:
    """Whole entries from the file's present position; a half-written one is left for the next time."""
    while block := os.read(fd, 2**20):
        complete, newline, rest = block.rpartition(b"\n")
        if not newline:
            os.lseek(fd, -len(block), os.SEEK_CUR)
            return
        os.lseek(fd, -len(rest), os.SEEK_CUR)
        yield b"".join(text_of(entry + b"\n", options) for entry in complete.split(b"\n"))
