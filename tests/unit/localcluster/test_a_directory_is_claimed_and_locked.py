"""A cluster removes what an earlier one left in its directory: so it must be its own, and only once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from localcluster.errors import AlreadyUp, LocalClusterError

from localcluster import directory

HOLD = (
    "import pathlib, sys\nfrom localcluster import directory\n"
    "with directory.locked(pathlib.Path(sys.argv[1])):\n    print('held', flush=True)\n    input()\n"
)


def test_a_folder_with_other_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(LocalClusterError, match="choose another --dir"):
        directory.claim(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_claimed_folder_is_emptied_but_for_the_supervisors_files(tmp_path: Path) -> None:
    directory.claim(tmp_path)
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "etcd.log").touch()
    (tmp_path / "link").symlink_to(tmp_path / "logs")
    (tmp_path / directory.SUPERVISOR_LOG).touch()
    directory.claim(tmp_path)
    directory.clear(tmp_path)
    assert {entry.name for entry in tmp_path.iterdir()} == {directory.MARK, directory.SUPERVISOR_LOG}


def test_a_second_owner_is_refused_until_the_first_was_killed(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert directory.owner(tmp_path) == holder.pid
        with pytest.raises(AlreadyUp, match="up already"), directory.locked(tmp_path):
            pass
        holder.kill()
    assert directory.owner(tmp_path) is None
    with directory.locked(tmp_path):
        pass


def test_nobody_owns_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert directory.owner(tmp_path / "absent") is None
