"""A pod's volumes on disk, and where each container sees them.

Files from the API (configMap, secret, downwardAPI, projected) are written by `refresh`, which the pod worker calls
before the first start, at each periodic sync and when the pod object changes; between them they lag behind the API,
like the real kubelet's. A subPath of such a volume is a copy made when the container starts and never refreshed.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from localcluster.kubelet import payload
from localcluster.kubelet.api import Api, ApiError
from localcluster.kubelet.expansion import expand
from localcluster.kubelet.fields import FieldError, Place, field_value, resource_value
from localcluster.kubelet.objects import Json, all_containers
from localcluster.kubelet.payload import File
from localcluster.kubelet.sources import MissingSource, SourceKind, fetch
from localcluster.kubelet.tokens import Tokens

FROM_API = ("configMap", "secret", "downwardAPI", "projected")


class VolumeError(Exception):
    """A volume cannot be set up; the text becomes the FailedMount event's."""

    def __init__(self, volume: str, why: str) -> None:
        super().__init__(f'MountVolume.SetUp failed for volume "{volume}" : {why}')


class Volumes:
    """The volumes of one pod below `directory`."""

    def __init__(self, api: Api, directory: Path, place: Place) -> None:
        self.api, self.directory, self.place = api, directory, place
        self.tokens = Tokens(api)
        self._where: dict[str, Path] = {}

    async def refresh(self, pod: Json) -> None:
        """Bring every volume to what the API says now. Raises VolumeError for the first that cannot be."""
        for volume in pod["spec"].get("volumes", []):
            name = volume["name"]
            try:
                self._where[name] = await self._set_up(pod, volume)
            except (MissingSource, FieldError, OSError) as error:
                raise VolumeError(name, str(error)) from error
            except ApiError as error:
                raise VolumeError(name, error.message) from error

    async def _set_up(self, pod: Json, volume: Json) -> Path:
        own: Path = self.directory / volume["name"]
        kind = next((field for field in volume if field != "name"), "emptyDir")
        if kind in FROM_API:
            files = await self._files(pod, kind, volume[kind], volume[kind].get("defaultMode", 0o644))
            payload.write(own, files)
            return own
        if kind == "emptyDir":
            own.mkdir(parents=True, exist_ok=True)
            return own
        if kind == "hostPath":
            return _host_path(volume["hostPath"])
        if kind == "persistentVolumeClaim":
            return await self._claimed(pod, volume[kind]["claimName"])
        raise OSError(
            f"volumes of type {kind} are not supported here; use configMap, secret, emptyDir, hostPath or a claim"
        )

    async def _claimed(self, pod: Json, claim: str) -> Path:
        found = await self.api.get(f"/api/v1/namespaces/{pod['metadata']['namespace']}/persistentvolumeclaims/{claim}")
        volume = found["spec"].get("volumeName")
        if not volume or found.get("status", {}).get("phase") != "Bound":
            raise OSError(f'persistentvolumeclaim "{claim}" is not bound')
        spec = (await self.api.get(f"/api/v1/persistentvolumes/{volume}"))["spec"]
        local = spec.get("hostPath") or spec.get("local")
        if not local:
            raise OSError(f'persistentvolume "{volume}" is neither hostPath nor local; nothing else exists here')
        return _host_path(local)

    async def _files(self, pod: Json, kind: str, source: Json, mode: int) -> dict[str, File]:
        if kind == "configMap" or kind == "secret":
            name = source["name"] if "name" in source else source["secretName"]
            return await self._from_source("configmap" if kind == "configMap" else "secret", pod, name, source, mode)
        if kind == "downwardAPI":
            return {item["path"]: self._from_pod(item, pod, mode) for item in source.get("items", [])}
        if kind == "serviceAccountToken":
            text = await self.tokens.token(pod, source.get("audience", ""), int(source.get("expirationSeconds", 3600)))
            return {source["path"]: File(text.encode(), mode)}
        if kind == "projected":
            files: dict[str, File] = {}
            for part in source.get("sources", []):
                ((inner, content),) = part.items()
                files.update(await self._files(pod, inner, content, mode))
            return files
        raise OSError(f"projected source {kind} is not supported here")

    async def _from_source(self, kind: SourceKind, pod: Json, name: str, source: Json, mode: int) -> dict[str, File]:
        optional = bool(source.get("optional"))
        found = await fetch(self.api, kind, pod["metadata"]["namespace"], name, optional=optional)
        if not source.get("items"):
            return {key: File(data, mode) for key, data in found.data.items()}
        files = {}
        for item in source["items"]:
            if item["key"] in found.data:
                files[item["path"]] = File(found.data[item["key"]], item.get("mode", mode))
            elif not optional:
                raise MissingSource(f"{kind} references non-existent config key: {item['key']}")
        return files

    def _from_pod(self, item: Json, pod: Json, mode: int) -> File:
        if "fieldRef" in item:
            text = field_value(item["fieldRef"]["fieldPath"], pod, self.place)
        else:
            reference = item["resourceFieldRef"]
            of = next(one for one in all_containers(pod) if one["name"] == reference["containerName"])
            text = resource_value(reference, of, self.place)
        return File(text.encode(), item.get("mode", mode))

    def mounts(self, pod: Json, container: Json, copies: Path, env: dict[str, str]) -> dict[str, str]:
        """Container path -> real path. `copies` is the folder for subPaths of API volumes. Raises VolumeError."""
        kinds = {
            volume["name"]: next((f for f in volume if f != "name"), "") for volume in pod["spec"].get("volumes", [])
        }
        real: dict[str, str] = {}
        for index, mount in enumerate(container.get("volumeMounts", [])):
            name = mount["name"]
            below = expand(mount["subPathExpr"], env) if mount.get("subPathExpr") else mount.get("subPath", "")
            target = self._where[name] / below
            if below and kinds[name] in FROM_API:
                if not target.exists():
                    raise VolumeError(name, f"subPath {below} does not exist")
                target = _copied(target, copies / str(index))
            elif below and not target.exists():
                target.mkdir(parents=True)
            real[mount["mountPath"]] = str(target)
        return real


def _host_path(source: Json) -> Path:
    path, kind = Path(source["path"]), source.get("type", "")
    if kind == "DirectoryOrCreate":
        path.mkdir(parents=True, exist_ok=True)
    elif kind == "FileOrCreate":
        path.touch()
    elif kind == "Directory" and not path.is_dir():
        raise OSError(f"hostPath type check failed: {path} is not a directory")
    elif kind == "File" and not path.is_file():
        raise OSError(f"hostPath type check failed: {path} is not a file")
    return path


def _copied(source: Path, to: Path) -> Path:
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir(parents=True)
    target = to / source.name
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copy(source, target)
    return target
