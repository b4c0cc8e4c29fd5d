"""A reconcile with nothing to do makes no write: counted in the API server's audit log, not by us."""

import time
from collections.abc import Callable
from typing import Any

RESYNCS_SECONDS = 12


def test_fifteen_resyncs_of_a_steady_deployment_write_nothing(
    place: Any, a_deployment: Callable[..., dict[str, Any]], audit: Any
) -> None:
    place.apply(a_deployment())
    place.eventually(place.has("ConfigurationApplied", "True"))
    place.eventually(place.has("Progressing", "True", "RolloutComplete"))
    assert any(write.endswith(f"{place.namespace}/chat-schedule") for write in audit.writes()), (
        "the count would see one"
    )
    audit.mark()
    time.sleep(RESYNCS_SECONDS)
    assert [write for write in audit.writes() if f" {place.namespace}/" in write] == []
