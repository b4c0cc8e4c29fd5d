"""Timing the degrees, in lock-step on all ranks: all of them at start-up, one that is built later while serving."""

from collections.abc import Callable, Sequence
from statistics import median

from .curves import StepTimeCurves
from .degree import Degree

TIMED_STEPS = 5  # per size and degree, after one that warms up
BUDGET_SECONDS = 8.0
SERVING_BUDGET_SECONDS = 1.0  # requests wait meanwhile

RunStep = Callable[[Degree, int], float]  # run one dummy step of n tokens -> its seconds on this rank
Agree = Callable[[list[float]], list[float]]  # the largest of each value over all ranks


def calibrate(
    run_step: RunStep,
    agree: Agree,
    degrees: Sequence[Degree],
    sizes: Sequence[int],
    budget_seconds: float = BUDGET_SECONDS,
) -> StepTimeCurves:
    """Time every degree at the same sizes, small ones first: a step's median, of the slowest rank.

    Every decision rests on agreed numbers, so that all ranks run the same steps. When the budget would be passed, fewer
    steps are timed per size, at last the larger sizes are left out, for all degrees alike.
    """
    for degree in degrees:
        run_step(degree, sizes[0])  # outside of the budget: the first forward of all pays for imports and connections
    measured: dict[Degree, list[float]] = {degree: [] for degree in degrees}
    done: list[int] = []
    spent = 0.0
    for i, tokens in enumerate(sizes):
        warm = agree([run_step(degree, tokens) for degree in degrees])
        spent += sum(warm)
        rounds = int(min(TIMED_STEPS, (budget_seconds - spent) / (len(sizes) - i) / sum(warm)))
        if rounds < 1 and done:
            break
        timed = [[run_step(degree, tokens) for degree in degrees] for _ in range(max(rounds, 1))]
        medians = agree([median(step[k] for step in timed) for k in range(len(degrees))])
        spent += sum(medians) * max(rounds, 1)
        for degree, seconds in zip(degrees, medians, strict=True):
            measured[degree].append(seconds)
        done.append(tokens)
        if spent > budget_seconds:
            break
    return StepTimeCurves(tuple(done), {degree: tuple(seconds) for degree, seconds in measured.items()})


def calibrate_further(
    run_step: RunStep,
    agree: Agree,
    degree: Degree,
    curves: StepTimeCurves,
    like: Degree,
    budget_seconds: float = SERVING_BUDGET_SECONDS,
) -> tuple[float, ...]:
    """Seconds of `degree` at the sizes of `curves`: one warm step and one timed each, small ones first.

    Sizes for which the budget does not last are taken in proportion to those of `like`.
    """
    run_step(degree, curves.sizes[0])
    measured: list[float] = []
    spent = 0.0
    for tokens in curves.sizes:
        if measured and spent > budget_seconds:
            break
        [warm] = agree([run_step(degree, tokens)])
        [seconds] = agree([run_step(degree, tokens)])
        spent += warm + seconds
        measured.append(seconds)
    known = curves.calibrated[like]
    ratio = measured[-1] / known[len(measured) - 1]
    return (*measured, *(ratio * seconds for seconds in known[len(measured) :]))
