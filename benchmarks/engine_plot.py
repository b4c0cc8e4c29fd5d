"""Draw what `engine.py` measured: step times by their size, as ratios to stock tensor parallelism.

    .venv/control/bin/python benchmarks/engine_plot.py ENGINE.json PICTURE.svg

A line per phase; each point is the median over the rounds.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

import matplotlib
from engine_figures import STOCK, Rounds
from matplotlib.figure import Figure

PANELS = (("prefill", "tokens of one prompt's prefill"), ("decode", "requests of a decode step"))
STYLES = ("-", "--", "-.", ":")


def main() -> int:
    """The command line. Exits 1 where the file has no figures of stock to compare with."""
    parser = argparse.ArgumentParser(description="Draw what engine.py measured.")
    parser.add_argument("measured", type=Path, metavar="ENGINE.json")
    parser.add_argument("picture", type=Path, metavar="PICTURE.svg")
    options = parser.parse_args()
    rounds = json.loads(options.measured.read_text())["rounds"]
    if STOCK not in rounds or len(rounds) < 2:
        print(f"{options.measured} has nothing to compare: {', '.join(rounds) or 'no phase at all'}", file=sys.stderr)
        return 1
    # The same numbers give the same file.
    with matplotlib.rc_context({"svg.hashsalt": "shift", "svg.fonttype": "none", "font.size": 9}):
        figure(rounds).savefig(options.picture, format="svg", metadata={"Date": None}, bbox_inches="tight")
    return 0


def figure(rounds: Rounds) -> Figure:
    """Two panels side by side: prefills and decode steps."""
    drawn = Figure(figsize=(10, 3.6), layout="constrained")
    for panel, (what, said) in zip(drawn.subplots(1, len(PANELS), sharey=True), PANELS, strict=True):
        stock = medians(rounds, STOCK, what)
        for index, phase in enumerate(phase for phase in rounds if phase != STOCK):
            ratios = [value / stock[size] for size, value in medians(rounds, phase, what).items()]
            panel.plot(list(stock), ratios, STYLES[index % len(STYLES)], marker=".", label=phase)
        panel.axhline(1.0, color="black", linewidth=0.8, label="stock tensor parallelism")
        panel.set_xscale("log", base=2)
        panel.set_xticks(list(stock), [f"{size:,}" for size in stock], rotation=45)
        panel.minorticks_off()
        panel.set_xlabel(said)
        panel.grid(alpha=0.3)
    drawn.axes[0].set_ylabel("time, of stock's")
    drawn.legend(*drawn.axes[0].get_legend_handles_labels(), loc="outside right upper", frameon=False)
    return drawn


def medians(rounds: Rounds, phase: str, what: str) -> dict[int, float]:
    """-> by size, ascending."""
    each: dict[str, Any] = rounds[phase][0][what]
    return {int(size): statistics.median(figures[what][size] for figures in rounds[phase]) for size in each}


if __name__ == "__main__":
    sys.exit(main())
