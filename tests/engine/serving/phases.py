"""The schedules that a scenario runs under, on CPU (scenarios.py) and on GPUs (tests/gpu/case.py).

A module that the ranks can import by name: functions sent to them by `collective_rpc` live here.
"""

from typing import Any

NEVER, ALWAYS, MIXED = "never", "always", "mixed"  # is the large degree run
EVERY_OTHER = "every other"  # steps take all loaded degrees in turn, by force
ALWAYS_2X2 = "always 2x2"
THREE_RANGES = "three ranges"  # of an engine that has 1x4, 2x2 and 4x1


def schedule(phase: str, degree: str, generation: int, threshold: int) -> dict[str, Any]:
    """The schedule document of a phase: never, always, or above `threshold` tokens the large degree."""
    sequence, tensor = map(int, degree.split("x"))
    large, full = {"sequence": sequence, "tensor": tensor}, {"sequence": 1, "tensor": sequence * tensor}
    halves = {"sequence": 2, "tensor": 2}
    ranges = {
        NEVER: [full],
        ALWAYS: [large],
        ALWAYS_2X2: [halves],
        THREE_RANGES: [{"upToTokens": threshold // 2, **full}, {"upToTokens": threshold * 11, **halves}, large],
    }
    return {"generation": generation, "ranges": ranges.get(phase, [{"upToTokens": threshold, **full}, large])}


def alternate(worker: Any) -> None:
    """Runs on each rank: from now on steps take the loaded degrees in turn."""
    ledger, turns = worker._ledger, [worker._full, *sorted(worker._ledger.loaded)]

    def wanted(tokens: int) -> Any:
        ledger.step += 1
        return turns[ledger.step % len(turns)]

    ledger.wanted = wanted


def stop_alternating(worker: Any) -> None:
    """Runs on each rank: the schedule decides again."""
    worker._ledger.__dict__.pop("wanted", None)
