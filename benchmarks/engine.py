"""Step times and throughput of stock tensor parallelism, the shift engine, data parallelism and ArcticInference, on one
host's GPUs.

    PYTHONPATH=worker_image python3 benchmarks/engine.py OUT [--model 8B] [--degree 2x1] [--rounds 3] [--turns 20]
                                                             [--control] [--profile] [--arctic PYTHON] [--without one]
    PYTHONPATH=worker_image python3 benchmarks/engine.py OUT --one-gpu [--model 1B]

The first compares stock vLLM at --tensor-parallel-size P with the shift engine: never shifting, always, and by the
threshold that its calibration found; and with stock vLLM on one GPU, whose throughput on 1 / P of the requests, times
P, is what data parallelism would reach with perfect balance. With --arctic also with ArcticInference, at the same
degree with shifting off and on: it needs vLLM 0.26, so PYTHON is the interpreter of another environment, with
arctic-inference 0.3 (or a script that sets its variables and starts one); it does not see this one's PYTHONPATH. Its
engine core has a process of its own, as its releases run, the others' has not. The second needs one GPU and measures
what the shift engine's part of a step costs where nothing shifts: stock vLLM's worker against ours, both with one rank.

Weights are random, of the named model's shape. Every engine has processes of its own (`engine_process.py`). They are
all up together, each with a KV cache of the same size, and measured in turns, so that whatever changes on the host
meets them all; an engine that waits for its turn leaves the GPUs alone. Where the GPUs' memory does not hold all,
--without leaves one out, or --apart has one up at a time. First stock and the shift engine, which then never shifts,
run decode steps in many short turns, since a round is too long to tell one per cent; the shift engine once more without
timing its steps. With --control a second engine of stock does too, and shows how much of a difference is chance.
--profile has torch's profiler name the kernels of a step. Then come the rounds; each figure is the median over them.
An engine that fails is not tried again; the table says so, and the others go on. OUT gets the table (engine.md) and all
numbers (engine.json, which `engine_plot.py` draws), both written anew after each measurement, and a log per engine.
"""

import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from engine_figures import NEVER, ONE, STOCK, Figures, Turn, table, table_of_turns
from engine_process import ARCTIC, FIGURES, KV_CACHE_GIB, PROFILE, SHAPES, TURN
from engine_profile import table_of_profiles

SHIFT, CONTROL_ENGINE = "shift", "control"
NEVER_SHIFT = (STOCK, SHIFT, CONTROL_ENGINE)  # what takes turns of decode steps
TABLE = "engine.md"
START_SECONDS = 900
ROUND_SECONDS = 900
STOP_SECONDS = 20


class EngineFailed(Exception):
    """An engine gave no figures; the message says where to look."""


def main() -> int:
    """The command line. Exits 1 where an engine failed."""
    parser = argparse.ArgumentParser(description="Time stock tensor parallelism and the shift engine.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", choices=SHAPES, default="8B")
    parser.add_argument("--degree", help="the shift engine's degree, SEQUENCExTENSOR; default: all GPUs as sequence")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--turns", type=int, default=20, help="of decode steps that never shift; none with --apart")
    parser.add_argument("--control", action="store_true", help="a second engine of stock takes part in the turns")
    parser.add_argument("--profile", action="store_true", help="name the kernels of a step of stock, never and always")
    parser.add_argument("--graphs", choices=["on", "off"], default="on", help="as --shift-graphs")
    parser.add_argument("--arctic", type=Path, metavar="PYTHON", help="an interpreter with vLLM 0.26, ArcticInference")
    parser.add_argument("--without", choices=["one", *ARCTIC], action="append", default=[], help="leave an engine out")
    parser.add_argument("--one-gpu", action="store_true", help="only what the shift engine costs when it never shifts")
    parser.add_argument("--apart", action="store_true", help="one engine at a time, each through all of its rounds")
    options = parser.parse_args()

    import torch

    gpus = torch.cuda.device_count()
    if gpus < (1 if options.one_gpu else 2):
        wanted = "one GPU" if options.one_gpu else "at least two GPUs; with one, --one-gpu measures what that allows"
        print(f"This benchmark needs {wanted}. This machine has {gpus}.", file=sys.stderr)
        return 1
    if options.one_gpu:
        options.degree = "1x1"
    elif options.degree is None:
        options.degree = f"{2 ** (gpus.bit_length() - 1)}x1"
    options.out.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # through the engines' end
    said = (
        f"{options.model} shape, bf16, random weights, degree {options.degree}, {torch.cuda.get_device_name()}; "
        f"{KV_CACHE_GIB} GiB of KV cache on each GPU for each engine; medians of the rounds ({options.rounds} asked "
        f"for), milliseconds, and in brackets the ratio to stock. Throughput of {ONE}: that of as many engines as GPUs."
    )
    engines = [STOCK, SHIFT] if options.one_gpu else [STOCK, SHIFT, "one", *(ARCTIC if options.arctic else ())]
    engines += [CONTROL_ENGINE] if options.control else []
    engines = [engine for engine in engines if engine not in options.without]
    groups = [[engine] for engine in engines] if options.apart else [engines]
    found = Found()
    for group in groups:
        for _ in measured(group, options, found):
            found.write(options.out, said)
    found.write(options.out, said)
    print((options.out / TABLE).read_text())
    return 1 if found.lacks else 0


@dataclass
class Found:
    """All that has been measured so far."""

    rounds: dict[str, list[Figures]] = field(default_factory=dict)  # by phase
    turns: dict[str, list[Turn]] = field(default_factory=dict)  # by phase, in engines that never shift
    profiles: dict[str, Any] = field(default_factory=dict)  # by phase
    lacks: dict[str, str] = field(default_factory=dict)  # why an engine did not run, by its name

    def write(self, out: Path, said: str) -> None:
        """The table and all numbers."""
        numbers = {"rounds": self.rounds, "turns": self.turns, "profiles": self.profiles}
        (out / "engine.json").write_text(json.dumps(numbers, indent=1))
        parts = [table(self.rounds, said, self.lacks)]
        if min(len(self.turns.get(phase, ())) for phase in (STOCK, NEVER)) > 1:
            parts.append(table_of_turns(self.turns))
        if self.profiles:
            parts.append(table_of_profiles(self.profiles))
        (out / TABLE).write_text("\n".join(parts))


def measured(group: list[str], options: argparse.Namespace, found: Found) -> Iterator[None]:
    """Start these engines and measure them in turns; `found` grows by each. One that has failed is not tried again.
    They start at once, but for the shift engine: it times its modes as it starts, so the others wait.
    """
    running: dict[str, Engine] = {}

    def tried(name: str, what: Callable[[], Any]) -> Any:
        """-> what it gives, None where the engine failed."""
        try:
            return what()
        except EngineFailed as why:
            found.lacks[name] = str(why)
            print(f"{name}: {why}", file=sys.stderr, flush=True)
            if name in running:
                running.pop(name).stop(time.monotonic() + STOP_SECONDS)
            return None

    try:
        for wave in ([name for name in group if name != SHIFT], [name for name in group if name == SHIFT]):
            for name in wave:
                engine = tried(name, partial(Engine, name, options))
                if engine is not None:
                    running[name] = engine
            for name in [name for name in wave if name in running]:
                seconds = tried(name, running[name].started)
                if seconds is not None:
                    print(f"{name}: up after {seconds:.0f} s", flush=True)
        if {STOCK, SHIFT} <= running.keys():
            for index in range(options.turns):
                in_turn = [name for name in NEVER_SHIFT if name in running]
                for name in in_turn if index % 2 else reversed(in_turn):
                    for phase, turn in (tried(name, running[name].turn) or {}).items():
                        found.turns.setdefault(phase, []).append(turn)
            print(f"decode steps: {options.turns} turns done", flush=True)
            yield
        if options.profile:
            for name in [name for name in (STOCK, SHIFT) if name in running]:
                found.profiles |= tried(name, running[name].profile) or {}
            yield
        for index in range(options.rounds):
            for name in [name for name in group if name in running and name != CONTROL_ENGINE]:
                answer = tried(name, running[name].measure)
                if answer is None:
                    continue
                for phase, figures in answer.items():
                    found.rounds.setdefault(phase, []).append(figures)
                print(f"{name}, round {index + 1}: done", flush=True)
                yield
    finally:
        ended_by = time.monotonic() + STOP_SECONDS
        for engine in running.values():
            engine.hang_up()
        for engine in running.values():
            engine.stop(ended_by)


class Engine:
    """One engine, in a process group of its own. It says when it is up, and answers each request with its figures."""

    def __init__(self, name: str, options: argparse.Namespace) -> None:
        """Begin to start it. Raises EngineFailed where its interpreter cannot be run."""
        environment = dict(os.environ)
        interpreter: str | Path = sys.executable
        if name in ARCTIC:
            interpreter = options.arctic
            environment.pop("PYTHONPATH", None)  # this environment's vLLM, or ours
        ours, theirs = socket.socketpair()
        command = [interpreter, Path(__file__).with_name("engine_process.py"), options.out, "--engine", name]
        command += ["--model", options.model, "--degree", options.degree, "--connection", str(theirs.fileno())]
        command += ["--graphs", options.graphs, *(["--one-gpu"] if options.one_gpu else [])]
        self._log = options.out / f"{name}.log"
        self._connection = Connection(ours.detach())
        self._began = time.monotonic()
        try:
            with theirs, self._log.open("w") as sink:
                self._process = subprocess.Popen(
                    command,
                    env=environment, stdout=sink, stderr=sink, start_new_session=True, pass_fds=[theirs.fileno()],
                )  # fmt: skip
        except OSError as error:
            raise EngineFailed(f"{interpreter}: {error.strerror}") from error

    def started(self) -> float:
        """Wait until it is up. -> the seconds that vLLM took. Raises EngineFailed."""
        seconds: float = self.answer(self._began + START_SECONDS - time.monotonic())
        return seconds

    def measure(self) -> dict[str, Figures]:
        """-> its figures by phase. Raises EngineFailed."""
        figures: dict[str, Figures] = self._asked(FIGURES)
        return figures

    def turn(self) -> dict[str, Turn]:
        """-> by phase, decode steps where nothing shifts, each batch once. Raises EngineFailed."""
        turns: dict[str, Turn] = self._asked(TURN)
        return turns

    def profile(self) -> dict[str, Any]:
        """-> where the time of its steps goes, by phase. Raises EngineFailed."""
        profiles: dict[str, Any] = self._asked(PROFILE)
        return profiles

    def _asked(self, what: str) -> Any:
        try:
            self._connection.send(what)
        except OSError as error:
            raise self._failure("ended") from error
        return self.answer(ROUND_SECONDS)

    def answer(self, seconds: float) -> Any:
        """What it says next. Raises EngineFailed where it ends, or says nothing for so long."""
        try:
            if not self._connection.poll(max(seconds, 0)):
                raise self._failure("no answer in time")
            return self._connection.recv()
        except (EOFError, OSError) as error:
            raise self._failure("ended") from error

    def hang_up(self) -> None:
        """It ends with its connection."""
        self._connection.close()

    def stop(self, ended_by: float) -> None:
        """It is killed where it has not ended by then: a rank without its peers waits for ever."""
        self.hang_up()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(max(ended_by - time.monotonic(), 0))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _failure(self, what: str) -> EngineFailed:
        said = [line for line in self._log.read_text(errors="replace").splitlines() if "Error" in line]
        return EngineFailed(f"{what}, see {self._log.name}" + (f": {said[-1].strip()[:200]}" if said else ""))


if __name__ == "__main__":
    sys.exit(main())
