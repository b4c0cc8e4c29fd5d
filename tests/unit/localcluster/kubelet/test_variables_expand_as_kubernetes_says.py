"""`$(VAR)` in command, args and env; the rows are those of Kubernetes' own expansion test."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from localcluster.kubelet.expansion import expand

VALUES = {"VAR_A": "A", "VAR_B": "B", "VAR_C": "C", "VAR_EMPTY": ""}


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("$(VAR_A)", "A"),
        ("___$(VAR_B)___", "___B___"),
        ("$(VAR_A)$(VAR_B)-1", "AB-1"),
        ("$(VAR_DNE)", "$(VAR_DNE)"),
        ("foo$(VAR_EMPTY)bar", "foobar"),
        ("$$(VAR_A)", "$(VAR_A)"),
        ("$$$(VAR_A)", "$A"),
        ("$$$$(VAR_A)", "$$(VAR_A)"),
        ("$VAR_A", "$VAR_A"),
        ("$(VAR_A", "$(VAR_A"),
        ("$", "$"),
        ("foo$", "foo$"),
        ("$?$(VAR_C)", "$?C"),
        ("$()", "$()"),
        ("$(VAR_A))", "A)"),
    ],
)
def test_expansion(text: str, expanded: str) -> None:
    assert expand(text, VALUES) == expanded


@given(st.text(alphabet="$()AB ", max_size=30))
def test_a_doubled_dollar_is_always_one_dollar(text: str) -> None:
    assert expand(text.replace("$", "$$"), VALUES) == text
