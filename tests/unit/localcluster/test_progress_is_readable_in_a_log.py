"""Progress: plain lines where nobody watches, a running timer on a terminal."""

from __future__ import annotations

import io
import time

import pytest
from localcluster.progress import Console


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_log_gets_one_line_when_a_step_is_done() -> None:
    out = io.StringIO()
    with Console(out).step("etcd"):
        assert out.getvalue() == ""
    assert out.getvalue() == f"{'etcd':<26} 0.0 s\n"


def test_a_long_step_is_announced() -> None:
    out = io.StringIO()
    with Console(out, announce=True).step("build etcd"):
        assert out.getvalue() == "build etcd ...\n"


def test_a_failed_step_says_so() -> None:
    out = io.StringIO()
    with pytest.raises(ValueError, match="why"), Console(out).step("etcd"):
        raise ValueError("why")
    assert "failed after" in out.getvalue()


def test_a_terminal_sees_the_time_pass() -> None:
    out = Terminal()
    with Console(out).step("etcd"):
        deadline = time.monotonic() + 20
        while "s ..." not in out.getvalue() and time.monotonic() < deadline:
            time.sleep(0.02)
    assert "\r\x1b[Ketcd" in out.getvalue()
    assert out.getvalue().endswith("s\n")
