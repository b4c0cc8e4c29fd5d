"""Restart back-off: at once, then 10, 20, 40 ... 300 s, forgotten after ten good minutes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from localcluster.kubelet.backoff import Backoff


def test_a_crashing_container_waits_longer_each_time() -> None:
    backoff, now, waits = Backoff(10), 0.0, []
    for _ in range(8):
        start = backoff.until(now)
        waits.append(start - now)
        backoff.count(start)
        now = start + 1
    assert waits == [0, 10, 20, 40, 80, 160, 300, 300]


def test_ten_healthy_minutes_forget_the_past() -> None:
    backoff = Backoff(10)
    backoff.count(0)
    backoff.count(20)
    assert backoff.until(600) == 620
    assert backoff.until(20 + 601) == 20 + 601


@given(st.lists(st.integers(0, 2000), min_size=1, max_size=30), st.integers(1, 60))
def test_the_wait_is_bounded(ran_for: list[int], base: int) -> None:
    backoff, now = Backoff(base), 0.0
    for seconds in ran_for:
        now += seconds
        start = backoff.until(now)
        assert 0 <= start - now <= 300
        backoff.count(start)
        now = start
