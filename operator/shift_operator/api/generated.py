"""Files that are generated from the API's types: written by default, compared with `--check`."""

import argparse
import difflib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path


def write_or_check(description: str, files: Mapping[str, str], argv: Sequence[str] | None = None) -> int:
    """Writes `files` (path within the repository -> text), or with `--check` shows how they differ and returns 1."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 with a diff where a file differs")
    parser.add_argument("--print", action="store_true", dest="show", help="write nothing; print the first file")
    parser.add_argument("--root", type=Path, default=Path(), help="the repository's root; default: here")
    options = parser.parse_args(argv)
    if options.show:
        print(next(iter(files.values())), end="")
        return 0
    if options.check:
        return 1 if sum(_differs(options.root / path, text) for path, text in files.items()) else 0
    for path, text in files.items():
        target = options.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        print(f"wrote {path}", file=sys.stderr)
    return 0


def _differs(path: Path, text: str) -> bool:
    there = path.read_text(encoding="utf-8") if path.exists() else ""
    diff = difflib.unified_diff(
        there.splitlines(keepends=True), text.splitlines(keepends=True), f"{path} (there)", f"{path} (generated)"
    )
    sys.stdout.writelines(diff)
    if there != text:
        print(f"{path} is not as generated; run `make generate`")
    return there != text
