"""Which file of the schedule's ConfigMap a pod reads, and what stands in each.

There is one, `schedule.json`, except while a rollout replaces pods of one degree by pods of another. Then each degree
has its own: the old pods go on with what they hold, and are not asked to build a degree for the minutes that they still
live. The name is an argument of the pod, so it changes with the degree alone, which restarts the pods anyway: what runs
now keeps its file. All files have one generation, so that a pod confirms it by whichever it reads.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shift_operator.api import labels
from shift_operator.api.schedule import SCHEDULE_KEY, Degree, Schedule
from shift_operator.api.shiftdeployment import ShiftDeployment, ShiftDeploymentSpec
from shift_operator.planning.degree import degree_of
from shift_operator.planning.groups import counts_of, template_of
from shift_operator.planning.manifest import Body, Manifest, child, with_annotations
from shift_operator.planning.names import schedule_name
from shift_operator.planning.pod import SCHEDULE_MOUNT
from shift_operator.planning.pods import engine_container
from shift_operator.planning.schedule import next_schedule, schedules_in

_FLAG = "--shift-schedule-file"


@dataclass(frozen=True)
class ScheduleFiles:
    """What the ConfigMap holds: a schedule by the name of its file. `home`: the degree that pods were started with
    which read `schedule.json`; kept only beside other files, None else."""

    schedules: Mapping[str, Schedule]
    home: str | None = None


def file_for(degree: Degree, workload: Body | None, config_map: Body | None) -> str:
    """The file of pods that are started with this degree. `workload`: the live one."""
    if workload is None:
        return SCHEDULE_KEY
    running = template_of(workload)
    if degree_of(running) == degree:
        return file_of(running)
    return SCHEDULE_KEY if str(degree) == _home(running, config_map) else _own(degree)


def file_of(template: Body) -> str:
    """The file that these pods read; `schedule.json` where they name none of ours."""
    args, degree = list(engine_container(template).get("args") or ()), degree_of(template)
    own = _own(degree) if degree else SCHEDULE_KEY
    return own if f"{SCHEDULE_MOUNT}/{own}" in args else SCHEDULE_KEY


def reading(template: Body, file: str) -> Body:
    """The pod template with its engine reading this file."""

    def read(container: Body) -> Body:
        args = list(container.get("args") or ())
        if container["name"] != labels.ENGINE_CONTAINER or _FLAG not in args:
            return container
        args[args.index(_FLAG) + 1] = f"{SCHEDULE_MOUNT}/{file}"
        return {**container, "args": args}

    spec = template["spec"]
    return {**template, "spec": {**spec, "containers": [read(container) for container in spec["containers"]]}}


def schedule_files(
    file: str,
    schedule: Schedule,
    spec: ShiftDeploymentSpec,
    threshold: int | None,
    workload: Body | None,
    config_map: Body | None,
    pods: Sequence[Body] = (),
) -> ScheduleFiles:
    """Every file that a pod may read: `schedule` in `file`, and beside it, until all pods read that, those before it,
    each with the degree that it had."""
    found = {file: schedule}
    running = None if workload is None else template_of(workload)
    if running is None or (file_of(running) == file and not counts_of(workload, pods).is_rolling_out):
        return ScheduleFiles(found)
    for name, old in schedules_in(config_map).items():
        large = old.ranges[-1].degree
        if name not in found and large.gpus == spec.parallelism.gpus_per_replica:
            ranges = next_schedule(spec, old, threshold, large).ranges
            found[name] = Schedule(generation=schedule.generation, ranges=ranges)
    return ScheduleFiles(found, _home(running, config_map) if len(found) > 1 else None)


def schedule_config_map(deployment: ShiftDeployment, files: ScheduleFiles) -> Manifest:
    """The ConfigMap that every engine of the deployment watches."""
    data = {name: schedule.to_json() for name, schedule in files.schedules.items()}
    manifest = child(deployment, "v1", "ConfigMap", schedule_name(deployment.name), {"data": data})
    return manifest if files.home is None else with_annotations(manifest, {labels.SCHEDULE_DEGREE: files.home})


def _home(running: Body, config_map: Body | None) -> str | None:
    """The degree that pods were started with which read `schedule.json`; None where there are none any more."""
    if file_of(running) == SCHEDULE_KEY:
        degree = degree_of(running)
        return None if degree is None else str(degree)
    annotations = ((config_map or {}).get("metadata") or {}).get("annotations") or {}
    home: str | None = annotations.get(labels.SCHEDULE_DEGREE)
    return home


def _own(degree: Degree) -> str:
    return f"schedule-{degree}.json"
