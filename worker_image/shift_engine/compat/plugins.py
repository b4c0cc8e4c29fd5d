"""Which of the installed vLLM plugins are loaded."""

import os
from collections.abc import MutableMapping
from importlib.metadata import entry_points

OURS = "shift_engine"  # the name of our general plugin and of our endpoint plugin
GROUPS = ("general_plugins", "io_processor_plugins", "platform_plugins", "stat_logger_plugins")


def allow_our_plugins(environment: MutableMapping[str, str] = os.environ) -> None:
    """Name our plugins in VLLM_PLUGINS: an endpoint plugin is loaded only if named. Where the variable was unset, all
    installed plugins are named, so that the others stay loaded."""
    named = environment.get("VLLM_PLUGINS")
    if named is None:
        names = {entry.name for group in GROUPS for entry in entry_points(group=f"vllm.{group}")}
    else:
        names = {name for name in named.split(",") if name}
    environment["VLLM_PLUGINS"] = ",".join(sorted(names | {OURS}))
