"""A token is asked for anew after 80 % of its life, a day at the latest."""

from __future__ import annotations

from localcluster.kubelet.tokens import Token


def test_an_hour_s_token_is_due_after_48_minutes() -> None:
    token = Token("t", requested_at=0, expires_at=3600)
    assert not token.is_due(0.79 * 3600)
    assert token.is_due(0.8 * 3600)


def test_a_year_s_token_is_due_after_a_day() -> None:
    token = Token("t", requested_at=0, expires_at=365 * 86400)
    assert not token.is_due(86399)
    assert token.is_due(86400)
