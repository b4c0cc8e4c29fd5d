"""The tiny model of a case: `write_model.py KIND DIR`."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "examples"))

from case import EAGLE, FP8, MOE, draft_of  # noqa: E402
from checkpoints import quantise  # noqa: E402
from drafted_model import write_draft  # noqa: E402
from tiny_model import write_model  # noqa: E402


def main(kind: str, directory: Path) -> None:
    """A tiny Llama, but for the mixture of experts; in fp8 or with a draft where the case asks for it."""
    write_model(directory, family=kind if kind == MOE else "llama")
    if kind == FP8:
        quantise(directory, kind="float")
    if kind == EAGLE:
        write_draft(directory, draft_of(directory))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
