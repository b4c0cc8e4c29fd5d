"""`kubectl logs`: tail, since, timestamps, limit, follow across a rotation."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from localcluster.kubelet.logs import LogOptions, last_lines, read, tail


def entry(second: int, text: str, tag: str = "F") -> bytes:
    return f"2026-11-24T11:00:{second:02d}.123456789Z stdout {tag} {text}\n".encode()


async def everything(path: Path, options: LogOptions) -> str:
    return b"".join([chunk async for chunk in read(path, options, ended=lambda: True)]).decode()


async def test_options_choose_the_lines(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_bytes(entry(1, "one") + entry(2, "two") + entry(3, "three"))
    assert await everything(path, LogOptions()) == "one\ntwo\nthree\n"
    assert await everything(path, LogOptions(tail=2)) == "two\nthree\n"
    assert await everything(path, LogOptions(tail=0)) == ""
    assert await everything(path, LogOptions(limit_bytes=6)) == "one\ntw"
    assert await everything(path, LogOptions(tail=1, timestamps=True)) == "2026-11-24T11:00:03.123456789Z three\n"
    assert await everything(path, LogOptions(since=1795518002.0)) == "two\nthree\n"


async def test_pieces_of_a_long_line_are_joined(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_bytes(entry(1, "long", "P") + entry(1, " line"))
    assert await everything(path, LogOptions()) == "long line\n"


async def test_a_missing_log_is_empty(tmp_path: Path) -> None:
    assert await everything(tmp_path / "0.log", LogOptions(follow=True)) == ""
    assert last_lines(tmp_path / "0.log", 10, 100) == ""


async def test_following_goes_on_after_a_rotation_and_ends_with_the_container(tmp_path: Path) -> None:
    path, over, seen = tmp_path / "0.log", asyncio.Event(), b""
    path.write_bytes(entry(1, "one"))
    async with asyncio.timeout(10):
        async for chunk in read(path, LogOptions(follow=True, tail=1), ended=over.is_set):
            seen += chunk
            if seen.endswith(b"one\n"):
                with path.open("ab") as file:
                    file.write(entry(2, "two"))
                path.rename(tmp_path / "0.log.1")
                path.write_bytes(entry(3, "three"))
            elif seen.endswith(b"three\n"):
                with path.open("ab") as file:
                    file.write(entry(4, "four"))
                over.set()
    assert seen == b"one\ntwo\nthree\nfour\n"


@given(st.lists(st.text(alphabet="ab é", max_size=50), max_size=50), st.integers(0, 60))
def test_tail_is_the_end_of_the_file(tmp_path_factory: pytest.TempPathFactory, lines: list[str], count: int) -> None:
    path = tmp_path_factory.mktemp("log") / "0.log"
    entries = [entry(0, line) for line in lines]
    path.write_bytes(b"".join(entries))
    assert tail(path, count) == entries[max(len(entries) - count, 0) :]
