"""The version of vLLM that this engine is written for, and whether it is the one that is installed.

The overlay leans on vLLM's inside (compat/), which changes from one minor version to the next: a name that is gone
would end the engine by an ImportError, and one that means something else would give wrong tokens.
"""

import re

import vllm

from . import __version__

SUPPORTED = "0.32"
"""The minor version; each patch release of it is taken."""
# Not 0.32.1rc1.dev5: builds between two releases are called so, and have what the next minor version changes.
_RELEASE = re.compile(rf"{re.escape(SUPPORTED)}\.\d+(\.post\d+)?")


class UnsupportedVllm(Exception):
    """Another vLLM is installed; the sentence names both versions and the rule."""


def installed() -> str:
    """vLLM's version, without that of its build ("+cpu")."""
    return str(vllm.__version__).partition("+")[0]


def version_problem() -> str | None:
    """Why this engine does not run on the installed vLLM, or None."""
    if _RELEASE.fullmatch(installed()):
        return None
    return (
        f"vLLM {installed()} is installed, and shift-engine {__version__} runs on vLLM's releases {SUPPORTED}.x alone, "
        f"since its overlay leans on vLLM's inside; install vLLM {SUPPORTED}.x, or the shift-engine that is written "
        f"for vLLM {installed()}"
    )


def check() -> None:
    """Raises UnsupportedVllm."""
    if problem := version_problem():
        raise UnsupportedVllm(problem)
