"""docs/benchmarks.md keeps what the benchmarks print, each between two marks that carry the name of its file."""

from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"


def of_pairs(title: str, pairs: list[tuple[str, str]]) -> str:
    """A table of two columns: what was measured, and the figure."""
    return "\n".join([f"| {title} | |", "|---|---|", *(f"| {what} | {value} |" for what, value in pairs)])


def show(script: str, text: str, *, write: bool) -> None:
    """Prints what `script` measured; with `write` the page keeps it."""
    print(f"\n{text}")
    if write:
        keep(script, text)


def keep(script: str, text: str, page: Path = PAGE) -> None:
    """Puts `text` between the marks of `script`, a file of benchmarks/. ValueError where the page has no such marks."""
    begin, end = f"<!-- {Path(script).name} -->\n", f"<!-- end of {Path(script).name} -->"
    written = page.read_text()
    before, began, rest = written.partition(begin)
    _, ended, after = rest.partition(end)
    if not (began and ended):
        raise ValueError(f"{page.name} has no place for it: {begin.strip()} and then {end}")
    page.write_text(f"{before}{begin}{text.strip()}\n{end}{after}")
