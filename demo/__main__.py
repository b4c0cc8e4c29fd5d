"""`python -m demo`: run the story, print its table, end with 0 only when all of it held."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import signal
import sys
import time
from pathlib import Path

from demo.environment import here
from demo.narration import Narration, StepFailed
from demo.story import STEPS, Demo, Outcome

INTERRUPTED = 130


def main() -> int:
    options = _parse()
    environment = here(options.work)
    for name, python in (("control", environment.control_python), ("engine", environment.engine_python)):
        if not python.exists():
            print(f"the {name} environment is missing ({python}): run `make setup` first", file=sys.stderr)
            return 1
    environment.work.mkdir(parents=True, exist_ok=True)
    demo = Demo(environment, Narration(STEPS - options.keep), keep=options.keep)
    began = time.monotonic()
    try:
        outcome = asyncio.run(_interruptible(demo))
    except StepFailed as failure:
        print(f"\nFAILED  {failure.part}: {failure.why}", file=sys.stderr)
        if failure.log:
            print("\n".join(f"  | {line}" for line in failure.log.splitlines()), file=sys.stderr)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("\ninterrupted: the cluster is down", file=sys.stderr)
        return INTERRUPTED
    print(table(outcome, time.monotonic() - began))
    if options.report:
        options.report.write_text(json.dumps(dataclasses.asdict(outcome), indent=2) + "\n")
    if options.keep:
        print(f'\nThe cluster is up. To use it:\n  eval "$({demo.cluster.command("env")})"\n  kubectl get sd')
        print(f"and when done:\n  {demo.cluster.command('down')}")
    return 0


async def _interruptible(demo: Demo) -> Outcome:
    """Ctrl-C and SIGTERM cancel the running step; the story's own clean-up follows."""
    task = asyncio.ensure_future(demo.run())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    return await task


def table(outcome: Outcome, seconds: float) -> str:
    """The last table: what happened, in numbers read from the cluster."""
    sequence = outcome.steps.get("2x1", 0)
    tensor = outcome.steps.get("1x2", 0)
    rows = [
        ("steps run tensor-parallel (TP=2)", f"{tensor:,}"),
        ("steps run sequence-parallel (SP=2)", f"{sequence:,}"),
        ("threshold before, after", f"{outcome.threshold_before} -> {outcome.threshold_after} tokens"),
        (
            "schedule generation, confirmed by",
            f"{outcome.generation}, {outcome.ranks_confirmed} of {outcome.ranks} ranks",
        ),
        ("answers equal to stock vLLM TP=2", f"{outcome.equal} of {outcome.compared}"),
        ("requests, of which failed", f"{outcome.requests}, {outcome.failed_requests}"),
        ("tokens streamed", f"{outcome.tokens:,}"),
        ("whole demo", f"{seconds:.0f} s"),
    ]
    width = max(len(name) for name, _ in rows)
    return "\n" + "\n".join(f"  {name:<{width}}  {value}" for name, value in rows)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the cluster up and say how to reach it")
    parser.add_argument("--work", type=Path, help="where the cluster's files go (default: in the cache)")
    parser.add_argument("--report", type=Path, help="also write the outcome as JSON")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
