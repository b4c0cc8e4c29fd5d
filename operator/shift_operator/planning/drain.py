"""How a replica ends without cutting requests. All times follow from `drain.timeoutSeconds`:

    pod deleted ── preStop sleeps ── SIGTERM ── the engine serves on ── vLLM shuts down ── exit ── (SIGKILL)
                   │ SETTLE        │ at most timeoutSeconds         │ MARGIN

The pod leaves the Service when it is deleted, but proxies learn of it a moment later and still send requests: in that
moment nothing changes. After SIGTERM the engine serves what comes over kept connections and tells each client to leave
(docs/contract.md, section 1). The margin is what vLLM needs to free its GPUs, so that SIGKILL never comes first.
"""

from typing import Any

from shift_operator.api.rollout import Drain

SETTLE_SECONDS = 5
MARGIN_SECONDS = 15


def shutdown_timeout_seconds(drain: Drain) -> int:
    """The engine's --shutdown-timeout: how long it may work on its requests after SIGTERM."""
    return drain.timeout_seconds


def grace_period_seconds(drain: Drain) -> int:
    """The pod's terminationGracePeriodSeconds, which begins with the preStop hook."""
    return SETTLE_SECONDS + shutdown_timeout_seconds(drain) + MARGIN_SECONDS


def pre_stop() -> dict[str, Any]:
    """The container's preStop hook."""
    return {"sleep": {"seconds": SETTLE_SECONDS}}
