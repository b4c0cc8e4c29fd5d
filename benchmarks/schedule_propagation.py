"""A ConfigMap has changed: how long until every rank of an engine runs by it. Real vLLM on CPU, P=2.

    .venv/engine/bin/python benchmarks/schedule_propagation.py [--changes 50] [--write]

The schedule file is replaced as a kubelet does, by a directory of its own and a rename of the symlink `..data`. The
clock runs from that rename until GET /shift shows that all ranks confirmed the generation, at one and the same step; it
is asked every 20 ms. What comes before the rename, the API server and the kubelet, is not in here. Changes come at
random moments between two looks of the engine at the file. Each moves the decodes from one degree to the other: first
with nothing to do, then with streams open all the time, each with a prefill of its own (no prefix is cached), whose
answers must all be alike. --write puts the table into docs/benchmarks.md.
"""

import argparse
import contextlib
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import page

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(CHECKOUT / each) for each in ("worker_image", "tests/engine", "tests/engine/serving")]

from cpu_environment import cpu_environment  # noqa: E402
from served import Served, schedule, serving  # noqa: E402

ASK_SECONDS = 0.02
PATIENCE_SECONDS = 60.0
REST_SECONDS = (0.3, 1.3)  # between two changes; the engine looks at the file twice a second
STREAMS, TOKENS = 8, 150
PROMPT = "Small steps want the weights split, large steps want the tokens split. " * 12
BOUNDS = (4, 64)  # in turn; a step of the eight decodes lies between them


@dataclass(frozen=True)
class Found:
    """What one run of changes found."""

    seconds: list[float]  # of each change
    answers: int  # streamed whole meanwhile
    steps: int
    load: float


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--changes", type=int, default=50, metavar="N", help="without requests, and again with them")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="schedule-propagation-") as directory:
        model = Path(directory) / "model"
        script = CHECKOUT / "examples" / "tiny_model.py"
        subprocess.run([sys.executable, script, model, "--kv-heads", "2"], check=True, stdout=subprocess.DEVNULL)
        flags = (schedule(1, *BOUNDS[1:]), "--no-enable-prefix-caching")
        with serving(None, model, cpu_environment(), Path(directory), *flags) as engine:
            found = measure(engine, options.changes)
    page.show(__file__, table(found), write=options.write)
    return 0


def measure(engine: Served, changes: int) -> dict[str, Found]:
    """Both runs, by name."""
    pause = random.Random(0)
    found = {"no requests": change(engine, range(2, 2 + changes), pause, [])}
    with streams(engine) as answers:
        found[f"{STREAMS} streams"] = change(engine, range(2 + changes, 2 + 2 * changes), pause, answers)
    if len(set(answers)) != 1:
        raise SystemExit(f"{len(set(answers))} different answers to one prompt")
    return found


def change(engine: Served, generations: range, pause: random.Random, answers: list[str]) -> Found:
    """Replace the file once for each generation."""
    seconds, steps, before = [], [engine.shift()["ranks"][0]["step"]], len(answers)
    for generation in generations:
        time.sleep(pause.uniform(*REST_SECONDS))
        engine.mount(schedule(generation, BOUNDS[generation % 2]))
        renamed = time.monotonic()
        steps.append(confirmed(engine, generation, renamed))
        seconds.append(time.monotonic() - renamed)
    return Found(seconds, len(answers) - before, steps[-1] - steps[0], os.getloadavg()[0])


def confirmed(engine: Served, generation: int, renamed: float) -> int:
    """Wait for every rank's confirmation. -> their step. SystemExit where two of them differ in step or schedule."""
    while True:
        ranks = engine.shift()["ranks"]
        if len({(rank["generation"], rank["step"]) for rank in ranks}) != 1:
            raise SystemExit(f"ranks disagree: {ranks}")
        if ranks[0]["generation"] == generation:
            return int(ranks[0]["step"])
        if time.monotonic() - renamed > PATIENCE_SECONDS:
            raise SystemExit(f"generation {generation} not within {PATIENCE_SECONDS:.0f} s: {engine.shift()['file']}")
        time.sleep(ASK_SECONDS)


@contextlib.contextmanager
def streams(engine: Served) -> Iterator[list[str]]:
    """Streams that are open all the time, each followed by another. -> the answers, as they get whole."""
    answers: list[str] = []
    ends = threading.Event()

    def one_after_the_other(begun: threading.Event) -> None:
        while not ends.is_set():
            answers.append(engine.stream(PROMPT, TOKENS, begun))

    with ThreadPoolExecutor(STREAMS) as pool:
        first = [threading.Event() for _ in range(STREAMS)]
        running = [pool.submit(one_after_the_other, each) for each in first]
        try:
            for each in first:
                if not each.wait(PATIENCE_SECONDS):
                    raise SystemExit(f"no stream began within {PATIENCE_SECONDS:.0f} s")
            yield answers
        finally:
            ends.set()
    for each in running:
        each.result()  # raises what a stream did


def table(found: dict[str, Found]) -> str:
    """The table of docs/benchmarks.md."""
    rows = {
        "changes": lambda run: str(len(run.seconds)),
        "rename to all ranks' confirmation, median": lambda run: f"{statistics.median(run.seconds):.2f} s",
        "longest": lambda run: f"{max(run.seconds):.2f} s",
        "engine steps meanwhile": lambda run: f"{run.steps:,}",
        f"answers of {TOKENS} tokens": lambda run: str(run.answers),
        "load average at the end": lambda run: f"{run.load:.1f}",
    }
    lines = [
        f"{os.cpu_count()} cores.\n",
        "| | " + " | ".join(found) + " |",
        "|---" * (1 + len(found)) + "|",
        *(f"| {what} | " + " | ".join(value(run) for run in found.values()) + " |" for what, value in rows.items()),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
