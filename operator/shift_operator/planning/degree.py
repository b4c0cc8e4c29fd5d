"""Which degree the engines run, and which one their pods are started with.

An engine holds several degrees over one KV cache, so a change between those it has, or can build, is a schedule and
restarts nothing. Only a degree that an engine cannot get while it serves takes a rollout, whose pods start with it. The
workload says what its pods were started with; that stays for as long as it does no harm.
"""

from collections.abc import Iterable

from shift_operator.api.schedule import Degree
from shift_operator.api.shiftdeployment import ShiftDeployment, ShiftDeploymentSpec
from shift_operator.planning.groups import template_of
from shift_operator.planning.manifest import Body
from shift_operator.planning.pods import engine_container


def first_degree(
    deployment: ShiftDeployment, wanted: Degree, workload: Body | None, live: frozenset[Degree] | None
) -> Degree:
    """The degree to start pods with so that they come to run `wanted`.

    `workload`: the live workload. `live`: what every engine runs or can build without a restart, None while that is
    not known, when nothing is restarted. Without candidates it is the spec's: the user asks for a rollout.
    """
    parallelism = deployment.spec.parallelism
    if not parallelism.degree_candidates:
        return parallelism.degree
    started = None if workload is None else degree_of(template_of(workload))
    if started is None or started not in parallelism.degree_candidates:
        return wanted
    return started if live is None or wanted in live else wanted


def degree_of(template: Body) -> Degree | None:
    """The degree that these pods are started with; None where they do not say."""
    args = list(engine_container(template).get("args") or ())
    try:
        sequence, _, tensor = args[args.index("--shift-degree") + 1].partition("x")
        return Degree(sequence=int(sequence), tensor=int(tensor))
    except (ValueError, IndexError):
        return None


def started_with(deployment: ShiftDeployment, degree: Degree) -> ShiftDeployment:
    """The deployment as it is planned when its pods start with this degree in place of the spec's."""
    parallelism = deployment.spec.parallelism.model_copy(update={"degree": degree})
    spec = deployment.spec.model_copy(update={"parallelism": parallelism})
    return deployment.model_copy(update={"spec": spec})


def degree_flags(spec: ShiftDeploymentSpec) -> list[str]:
    """The engine's flags: the degree to start with, then the other candidates, which it loads too if they fit."""
    first = spec.parallelism.degree
    others = sorted({*spec.parallelism.degree_candidates} - {first}, key=lambda degree: degree.sequence)
    return [word for degree in (first, *others) for word in ("--shift-degree", str(degree))]


def live_in_all(engines: Iterable[frozenset[Degree] | None]) -> frozenset[Degree] | None:
    """What each of the engines runs or can build; None where one has not said, or there is none."""
    known = list(engines)
    if not known:
        return None
    found: frozenset[Degree] | None = known[0]
    for degrees in known:
        if found is None or degrees is None:
            return None
        found &= degrees
    return found
