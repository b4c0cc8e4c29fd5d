"""The operator's image cannot be built where the tests run, so its Dockerfile is read: the rules are hadolint's."""

from __future__ import annotations

import json
import re
from pathlib import Path

CHECKOUT = Path(__file__).parents[3]
DOCKERFILE = (CHECKOUT / "Dockerfile").read_text()


def arguments(instruction: str) -> list[str]:
    joined = re.sub(r"\\\n\s*", "", DOCKERFILE)
    return re.findall(rf"^{instruction} (.*)$", joined, flags=re.MULTILINE)


def test_every_base_is_pinned_to_a_patch_release_of_the_supported_python() -> None:  # DL3006, DL3007
    bases = [base.partition(" AS ")[0] for base in arguments("FROM")]
    assert set(bases) == {"python:3.11.14-slim-bookworm"}
    assert 'requires-python = ">=3.11"' in (CHECKOUT / "pyproject.toml").read_text()


def test_the_packages_are_the_locked_ones() -> None:
    [install] = arguments("RUN")
    assert "--require-hashes -r /build/requirements.txt" in install
    assert "--no-cache-dir" in install  # DL3042


def test_what_is_copied_is_there_and_not_ignored() -> None:
    kept = {line[1:] for line in (CHECKOUT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    sources = {argument.split()[0] for argument in arguments("COPY") if not argument.startswith("--from")}
    assert sources == kept
    assert all((CHECKOUT / source).exists() for source in sources)


def test_it_runs_as_a_number_that_is_not_root_and_gets_its_signals() -> None:  # DL3002, DL3025
    user, _, group = arguments("USER")[-1].partition(":")
    assert int(user) > 0
    assert int(group) > 0
    assert json.loads(arguments("ENTRYPOINT")[-1])[1:] == ["-m", "shift_operator.controller"]
