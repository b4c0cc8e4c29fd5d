"""What pytest has collected."""

from typing import Any

import pytest


def parameters(item: pytest.Item) -> dict[str, Any]:
    """What a test is parametrized with, by name."""
    return dict(item.callspec.params) if hasattr(item, "callspec") else {}
