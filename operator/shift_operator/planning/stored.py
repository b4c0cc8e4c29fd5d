"""Parts that users write, in the form in which the API server keeps them: what we apply must compare equal to it."""

from typing import Any


def as_stored(value: Any) -> Any:
    """A user's part as the API server keeps it: no empty list or word; an empty selector stays: it is everything."""
    if isinstance(value, list):
        return [as_stored(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {key: item for key, item in value.items() if item not in ([], "") and (key, item) != ("matchLabels", {})}
    return {key: item if key == "matchLabels" else as_stored(item) for key, item in kept.items()}
