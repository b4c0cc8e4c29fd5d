"""Container paths -> real paths: without a chroot, the mount `/etc/config` lies somewhere in the pod's directory. Pure.

A program is told paths in three places, arguments, environment values and the working directory; there each container
path is replaced by the real one. A path that a program has built in is out of reach.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping

# What may stand before a path in a longer text (`--file=/etc/x`, `A:/etc/x`, `cat /etc/x`, `{"path": "/etc/x"}`) ...
_BEFORE = r"(?:^|(?<=[=:,;\s\"'(\[<>|&@])|(?<=file://))"
# ... and after it, so that /etc/config does not match in /etc/configuration.
_AFTER = r"(?=$|[/=:,;\s\"')\]<>|&])"


class PathMap:
    """Longest container path first: a mount below another one wins."""

    def __init__(self, real: Mapping[str, str]) -> None:
        self.real = {posixpath.normpath(path): target for path, target in real.items() if path.startswith("/")}
        self.real.pop("/", None)
        paths = sorted(self.real, key=len, reverse=True)
        self._pattern = re.compile(_BEFORE + "(" + "|".join(map(re.escape, paths)) + ")" + _AFTER) if paths else None

    def rewrite(self, text: str) -> str:
        """Every container path in an argument or an environment value, replaced."""
        if self._pattern is None or "/" not in text:
            return text
        return self._pattern.sub(lambda match: self.real[match[1]], text)

    def locate(self, path: str) -> str | None:
        """The real place of one container path, None where nothing is mounted there."""
        path = posixpath.normpath(path)
        head = path
        while head not in self.real:
            if head in ("/", ""):
                return None
            head = posixpath.dirname(head)
        return self.real[head] + path[len(head) :]
