"""Arguments and environment values name container paths; the process gets the real ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from localcluster.kubelet.paths import PathMap

PATHS = PathMap({"/etc/shift": "/pod/volumes/schedule", "/models": "/cache/models", "/models/cache": "/pod/volumes/c"})


@pytest.mark.parametrize(
    ("given_text", "real"),
    [
        ("/models", "/cache/models"),
        ("/models/tiny", "/cache/models/tiny"),
        ("--file=/etc/shift/schedule.json", "--file=/pod/volumes/schedule/schedule.json"),
        ("/models:/etc/shift", "/cache/models:/pod/volumes/schedule"),
        ("a=1,path=/models,b", "a=1,path=/cache/models,b"),
        ("/models/cache/x", "/pod/volumes/c/x"),
        ("cat /etc/shift/schedule.json > /models/out", "cat /pod/volumes/schedule/schedule.json > /cache/models/out"),
        ('{"path": "/models"}', '{"path": "/cache/models"}'),
        ("file:///models/tiny", "file:///cache/models/tiny"),
    ],
)
def test_a_container_path_is_replaced(given_text: str, real: str) -> None:
    assert PATHS.rewrite(given_text) == real


@pytest.mark.parametrize(
    "text", ["/modelsx", "/v1/models", "http://host/models", "models", "/etc/shiftx/file", "a/models", ""]
)
def test_what_only_looks_like_one_stays(text: str) -> None:
    assert PATHS.rewrite(text) == text


@given(st.text(alphabet="ab/=:, ", max_size=40))
def test_without_mounts_nothing_changes(text: str) -> None:
    assert PathMap({}).rewrite(text) == text


@given(st.lists(st.sampled_from(["/models", "/other", "x", "/models/a"]), max_size=6))
def test_each_part_of_a_search_path_is_replaced_on_its_own(parts: list[str]) -> None:
    assert PATHS.rewrite(":".join(parts)) == ":".join(PATHS.rewrite(part) for part in parts)


def test_locate_finds_the_innermost_mount() -> None:
    assert PATHS.locate("/models/cache/../cache/x") == "/pod/volumes/c/x"
    assert PATHS.locate("/models/y") == "/cache/models/y"
    assert PATHS.locate("/app") is None
