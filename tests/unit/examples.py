"""How many examples a property test takes that needs more or fewer than others: `make fuzz` has ten times as many."""

from hypothesis import settings

USUAL = 100  # what the profile of `make test-unit` gives a test that says nothing


def examples(count: int) -> int:
    """-> `max_examples` under the profile that runs."""
    return count * settings.default.max_examples // USUAL
