"""`$(VAR)` as Kubernetes expands it in command, args, env values and subPathExpr. Pure.

Rules (k8s.io/kubernetes third_party/forked/golang/expansion): `$(NAME)` becomes the value; an unknown name stays as it
is written; `$$` is one dollar sign and hides what follows (`$$(NAME)` -> `$(NAME)`); any other text is left alone.
"""

from __future__ import annotations

from collections.abc import Mapping


def expand(text: str, values: Mapping[str, str]) -> str:
    out: list[str] = []
    at = 0
    while (dollar := text.find("$", at)) >= 0 and dollar + 1 < len(text):
        out.append(text[at:dollar])
        following = text[dollar + 1]
        close = text.find(")", dollar) if following == "(" else -1
        if following == "$":
            out.append("$")
            at = dollar + 2
        elif close >= 0:
            name = text[dollar + 2 : close]
            out.append(values.get(name, text[dollar : close + 1]))
            at = close + 1
        elif following == "(":
            out.append("$(")
            at = dollar + 2
        else:
            out.append(text[dollar : dollar + 2])
            at = dollar + 2
    out.append(text[at:])
    return "".join(out)
