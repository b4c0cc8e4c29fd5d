"""A volume's files are swapped by one rename, and left alone when nothing changed."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from localcluster.kubelet.payload import File, write


def contents(volume: Path) -> dict[str, bytes]:
    return {entry.name: entry.read_bytes() for entry in volume.iterdir() if not entry.name.startswith("..")}


def test_readers_follow_the_data_link(tmp_path: Path) -> None:
    assert write(tmp_path, {"a": File(b"1"), "b": File(b"1")})
    before = os.readlink(tmp_path / "..data")
    assert os.readlink(tmp_path / "a") == "..data/a"
    assert write(tmp_path, {"a": File(b"2"), "b": File(b"2")})
    assert os.readlink(tmp_path / "..data") != before
    assert contents(tmp_path) == {"a": b"2", "b": b"2"}
    assert not (tmp_path / before).exists()


def test_equal_content_touches_nothing(tmp_path: Path) -> None:
    write(tmp_path, {"a": File(b"1")})
    before = os.readlink(tmp_path / "..data")
    assert not write(tmp_path, {"a": File(b"1")})
    assert os.readlink(tmp_path / "..data") == before


def test_an_open_file_keeps_its_old_content(tmp_path: Path) -> None:
    write(tmp_path, {"a": File(b"old")})
    with (tmp_path / "a").open("rb") as reader:
        write(tmp_path, {"a": File(b"new")})
        assert reader.read() == b"old"


def test_modes_and_nested_paths(tmp_path: Path) -> None:
    write(tmp_path, {"deep/er/file": File(b"x", 0o400)})
    assert stat.S_IMODE((tmp_path / "deep/er/file").stat().st_mode) == 0o400
    assert os.readlink(tmp_path / "deep") == "..data/deep"


@given(st.lists(st.dictionaries(st.sampled_from("abcd"), st.binary(max_size=4)), min_size=1, max_size=5))
def test_the_volume_holds_exactly_the_last_payload(
    tmp_path_factory: pytest.TempPathFactory, payloads: list[dict[str, bytes]]
) -> None:
    volume = tmp_path_factory.mktemp("volume")
    for payload in payloads:
        write(volume, {name: File(content) for name, content in payload.items()})
    assert contents(volume) == payloads[-1]
    assert len(list(volume.iterdir())) == len(payloads[-1]) + 2
