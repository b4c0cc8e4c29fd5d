"""The images file: tags, variables, relative paths, and errors that say what to do."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from localcluster.kubelet.images import ImageError, Images

FILE = """
images:
  "example.com:5000/server:1.0":
    entrypoint: ["${PYTHON}", -m, server]
    cmd: [--port, 8000]
    env: {MODE: "${MODE}"}
    files: {/app: app}
  tool:latest: {entrypoint: [bin/tool]}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "app").mkdir()
    (tmp_path / "images.yaml").write_text(FILE)
    return tmp_path / "images.yaml"


def test_an_image_is_found_with_its_variables_and_paths(path: Path) -> None:
    image = Images(path, {"PYTHON": "/usr/bin/python3", "MODE": "fast"}).find("example.com:5000/server:1.0")
    assert image.entrypoint == ["/usr/bin/python3", "-m", "server"]
    assert image.cmd == ["--port", "8000"]
    assert image.env == {"MODE": "fast"}
    assert image.files == {"/app": str(path.parent / "app")}


def test_no_tag_means_latest_and_a_relative_program_lies_beside_the_file(path: Path) -> None:
    assert Images(path, {}).find("tool").entrypoint == [str(path.parent / "bin/tool")]


def test_an_unknown_image_is_an_error_that_lists_the_known_ones(path: Path) -> None:
    with pytest.raises(ImageError, match=r'image "nope:1" is not in .*known are: example.com:5000/server:1.0, tool'):
        Images(path, {}).find("nope:1")


def test_an_unset_variable_is_named(path: Path) -> None:
    with pytest.raises(ImageError, match=r"\$\{PYTHON\} is not in the kubelet's environment"):
        Images(path, {}).find("example.com:5000/server:1.0")


def test_a_missing_file_tree_is_named(path: Path) -> None:
    (path.parent / "app").rmdir()
    with pytest.raises(ImageError, match=r"files: /app: .* does not exist"):
        Images(path, {"PYTHON": "p", "MODE": "m"}).find("example.com:5000/server:1.0")


def test_a_changed_file_is_read_again(path: Path) -> None:
    images = Images(path, {})
    images.find("tool")
    path.write_text("images: {new:1: {cmd: [x]}}")
    os.utime(path, (1, 1))
    assert images.find("new:1").cmd == ["x"]


@pytest.mark.parametrize("text", ["[]", "images: []", "images: {a:1: {command: [x]}}", "{"])
def test_a_malformed_file_is_an_error(path: Path, text: str) -> None:
    path.write_text(text)
    with pytest.raises(ImageError):
        Images(path, {}).find("a:1")


def test_an_env_file_lies_beside_and_env_wins_over_it(path: Path) -> None:
    (path.parent / "server.env").write_text("# threads\nOMP_NUM_THREADS=1\nMODE=slow\n\n")
    path.write_text("images: {a:1: {cmd: [x], envFile: server.env, env: {MODE: fast}}}")
    assert Images(path, {}).find("a:1").env == {"OMP_NUM_THREADS": "1", "MODE": "fast"}


@pytest.mark.parametrize(("content", "why"), [("no equals sign\n", "write KEY=VALUE lines"), (None, "cannot be read")])
def test_a_bad_env_file_is_named(path: Path, content: str | None, why: str) -> None:
    if content is not None:
        (path.parent / "server.env").write_text(content)
    path.write_text("images: {a:1: {cmd: [x], envFile: server.env}}")
    with pytest.raises(ImageError, match=rf"server\.env.*{why}"):
        Images(path, {}).find("a:1")
