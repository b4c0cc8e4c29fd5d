"""Where the time of a step goes on a GPU: the kernels of rank 0, by torch's profiler.

`profile` runs in an engine's process, `time_steps`, `begin` and `end` in its ranks', and the table is made in that of
`engine.py`.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from engine_figures import Load

DECODES = (1, 64)  # batches
PREFILLS = (8192,)  # tokens of one request, in one step
WARM_STEPS, DECODE_STEPS, PREFILL_STEPS = 8, 32, 3
KERNELS_SHOWN = 12
NAME_SHOWN = 60


@dataclass
class Profile:
    """Of one kind of step. Times are microseconds a step."""

    steps: int
    span: float  # from the first kernel's begin to the last one's end
    kernels: dict[str, tuple[float, float]]  # by name: calls a step, time

    @property
    def busy(self) -> float:
        """The kernels' time, one after the other."""
        return sum(time for _, time in self.kernels.values())


def profile(llm: Any) -> dict[str, dict[str, Any]]:
    """-> by kind of step, a Profile as a document, under the schedule that the engine has."""
    load = Load(llm)
    found: dict[str, Profile] = {}
    for batch in DECODES:
        load.seconds(load.prompts(batch, 64), 4)
        engine = load.begun(load.prompts(batch, 64), WARM_STEPS + DECODE_STEPS + WARM_STEPS)
        for _ in range(WARM_STEPS):
            engine.step()
        llm.collective_rpc(begin)
        for _ in range(DECODE_STEPS):
            engine.step()
        found[f"decode, batch {batch}"] = llm.collective_rpc(end)[0]
        while engine.has_unfinished_requests():
            engine.step()
    for tokens in PREFILLS:
        load.seconds(load.prompts(1, tokens), 1)
        llm.collective_rpc(begin)
        for _ in range(PREFILL_STEPS):
            load.seconds(load.prompts(1, tokens), 1)
        found[f"prefill of {tokens} tokens"] = llm.collective_rpc(end, args=(PREFILL_STEPS,))[0]
    return {what: asdict(each) for what, each in found.items()}


def time_steps(worker: Any, on: bool) -> None:
    """In a rank of the shift engine: whether its steps are timed, as they are unless it is told otherwise."""
    if not hasattr(worker, "timing_clock"):
        worker.timing_clock = worker._clock
    worker._ledger.fold()
    worker._clock = worker.timing_clock if on else NoClock
    worker._ledger._seconds = worker._clock.seconds


class NoClock:
    """A clock of the shift engine that puts nothing between the kernels."""

    @staticmethod
    def now() -> None:
        """A reading."""

    @staticmethod
    def seconds(began: None, ended: None) -> float:
        """Known at once, and told to be nothing, which no curve learns from."""
        return 0.0


def begin(worker: Any) -> None:
    """In a rank."""
    import torch
    from torch.profiler import ProfilerActivity

    if worker.rank == 0:
        torch.cuda.synchronize()
        worker.profiler_of_steps = torch.profiler.profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA])
        worker.profiler_of_steps.start()


def end(worker: Any, steps: int | None = None) -> Profile | None:
    """In a rank. `steps`: how many there were; None: as many as graphs were launched."""
    import torch
    from torch.autograd import DeviceType

    if worker.rank != 0:
        return None
    torch.cuda.synchronize()
    profiler = worker.profiler_of_steps
    profiler.stop()
    calls: dict[str, int] = defaultdict(int)
    nanoseconds: dict[str, int] = defaultdict(int)
    begins, ends, launches = [], [], 0
    for event in profiler.profiler.kineto_results.events():
        if event.device_type() == DeviceType.CUDA:
            calls[event.name()] += 1
            nanoseconds[event.name()] += event.duration_ns()
            begins.append(event.start_ns())
            ends.append(event.start_ns() + event.duration_ns())
        launches += event.name() == "cudaGraphLaunch"
    steps = steps or launches
    return Profile(
        steps,
        (max(ends) - min(begins)) / steps / 1e3,
        {name: (calls[name] / steps, nanoseconds[name] / steps / 1e3) for name in calls},
    )


def table_of_profiles(profiles: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """Markdown, of the documents by phase and kind of step: the kernels that take longest, in each phase."""
    kinds = next(iter(profiles.values()))
    lines = ["Kernels of a step on rank 0, microseconds a step (calls), the longest ones of each kind of step.", ""]
    for kind in kinds:
        of_phases = {phase: Profile(**each[kind]) for phase, each in profiles.items()}
        longest: dict[str, float] = defaultdict(float)
        for each in of_phases.values():
            for name, (_, time) in each.kernels.items():
                longest[name] = max(longest[name], time)
        shown = sorted(longest, key=longest.__getitem__, reverse=True)[:KERNELS_SHOWN]
        lines += [f"| {kind} | " + " | ".join(of_phases) + " |", "|---" * (len(of_phases) + 1) + "|"]
        for name in shown:
            cells = [each.kernels.get(name) for each in of_phases.values()]
            said = ["" if cell is None else f"{cell[1]:.1f} ({cell[0]:.0f})" for cell in cells]
            lines.append(f"| `{name[:NAME_SHOWN].replace('|', ' ')}` | " + " | ".join(said) + " |")
        lines.append("| all kernels | " + " | ".join(f"{each.busy:.0f}" for each in of_phases.values()) + " |")
        lines.append("| first to last | " + " | ".join(f"{each.span:.0f}" for each in of_phases.values()) + " |")
        lines.append("")
    return "\n".join(lines)
