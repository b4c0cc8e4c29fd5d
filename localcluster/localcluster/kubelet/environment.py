"""A container's environment and command line: image, envFrom, env, `$(VAR)`, then real paths for container paths."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from localcluster.kubelet.api import Api
from localcluster.kubelet.expansion import expand
from localcluster.kubelet.fields import FieldError, Place, field_value, resource_value
from localcluster.kubelet.images import Image
from localcluster.kubelet.objects import Json, all_containers
from localcluster.kubelet.paths import PathMap
from localcluster.kubelet.sources import MissingSource, Source, SourceKind, fetch

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
Sources = Mapping[tuple[SourceKind, str], Source]


class ConfigError(Exception):
    """The container cannot be configured as its spec asks; the text becomes CreateContainerConfigError's message."""


@dataclass(frozen=True)
class Command:
    """What to execute."""

    argv: list[str]
    env: dict[str, str]


def compose(
    pod: Json,
    container: Json,
    image: Image,
    place: Place,
    found: Sources,
    base: Mapping[str, str],
    paths: PathMap,
) -> Command:
    """Pure: the container's whole command. `base` is what the kubelet provides (HOME, ...). Raises ConfigError.

    Container paths are replaced before `$(VAR)` is expanded, so that a real path in a value is never taken for one.
    """
    argv = image.argv(container.get("command"), container.get("args"))
    if not argv:
        raise ConfigError(
            f'no command specified for container "{container["name"]}"; give command or an image entrypoint'
        )
    start = {key: paths.rewrite(value) for key, value in image.env.items()}
    env = resolve(pod, container, place, found, {**start, **base}, rewrite=paths.rewrite)
    env.setdefault("PATH", DEFAULT_PATH)
    return Command([expand(paths.rewrite(part), env) for part in argv], env)


def resolve(
    pod: Json,
    container: Json,
    place: Place,
    found: Sources,
    start: Mapping[str, str],
    *,
    rewrite: Callable[[str], str] = str,
) -> dict[str, str]:
    """Pure: `start`, then envFrom, then env in order, each able to refer to those before it. Raises ConfigError."""
    env = dict(start)
    for entry in container.get("envFrom", []):
        kind, reference = _source_of(entry)
        for key, data in sorted(found[kind, reference["name"]].data.items()):
            env[entry.get("prefix", "") + key] = rewrite(data.decode(errors="replace"))
    for entry in container.get("env", []):
        origin = entry.get("valueFrom")
        if not origin:
            env[entry["name"]] = expand(rewrite(entry.get("value", "")), env)
        elif "fieldRef" in origin or "resourceFieldRef" in origin:
            env[entry["name"]] = _own_field(origin, pod, container, place)
        else:
            value = _keyed(origin, found)
            if value is not None:
                env[entry["name"]] = rewrite(value)
    return env


def _own_field(origin: Json, pod: Json, container: Json, place: Place) -> str:
    if "fieldRef" in origin:
        try:
            return field_value(origin["fieldRef"]["fieldPath"], pod, place)
        except FieldError as error:
            raise ConfigError(str(error)) from error
    reference = origin["resourceFieldRef"]
    of = reference.get("containerName") or container["name"]
    return resource_value(reference, next(one for one in all_containers(pod) if one["name"] == of), place)


def _keyed(origin: Json, found: Sources) -> str | None:
    kind, reference = _source_of(origin)
    source = found[kind, reference["name"]]
    if reference["key"] in source.data:
        return source.data[reference["key"]].decode(errors="replace")
    if reference.get("optional"):
        return None
    title = "ConfigMap" if kind == "configmap" else "Secret"
    raise ConfigError(f"couldn't find key {reference['key']} in {title} {source.namespace}/{source.name}")


def _source_of(entry: Json) -> tuple[SourceKind, Json]:
    for field in ("configMapRef", "configMapKeyRef"):
        if field in entry:
            return "configmap", entry[field]
    for field in ("secretRef", "secretKeyRef"):
        if field in entry:
            return "secret", entry[field]
    raise ConfigError(
        f"env source {sorted(entry)} is not supported; use configMap, secret, fieldRef or resourceFieldRef"
    )


async def read_sources(api: Api, namespace: str, container: Json) -> Sources:
    """Every ConfigMap and Secret that env and envFrom name; optional only if every reference is. Raises ConfigError."""
    wanted: dict[tuple[SourceKind, str], bool] = {}
    origins = [entry["valueFrom"] for entry in container.get("env", []) if entry.get("valueFrom")]
    keyed = [origin for origin in origins if "fieldRef" not in origin and "resourceFieldRef" not in origin]
    for entry in [*container.get("envFrom", []), *keyed]:
        kind, reference = _source_of(entry)
        optional = bool(reference.get("optional"))
        wanted[kind, reference["name"]] = wanted.get((kind, reference["name"]), True) and optional
    try:
        return {
            (kind, name): await fetch(api, kind, namespace, name, optional=optional)
            for (kind, name), optional in wanted.items()
        }
    except MissingSource as error:
        raise ConfigError(str(error)) from error
