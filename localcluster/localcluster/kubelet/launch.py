"""From a container's spec to the order for its shim: image, mounts, environment, command, directories."""

from __future__ import annotations

import json
import posixpath
from dataclasses import dataclass
from pathlib import Path

from localcluster.kubelet import environment
from localcluster.kubelet.api import Api
from localcluster.kubelet.environment import ConfigError
from localcluster.kubelet.fields import Place
from localcluster.kubelet.images import Image
from localcluster.kubelet.layout import ContainerDir
from localcluster.kubelet.objects import Json
from localcluster.kubelet.paths import PathMap
from localcluster.kubelet.process import Order
from localcluster.kubelet.volumes import VolumeError, Volumes

ACCOUNT_DIR = "/var/run/secrets/kubernetes.io/serviceaccount"
TERMINATION_LOG = "/dev/termination-log"


@dataclass(frozen=True)
class ApiServer:
    """Where pods find the API server: the cluster IP of the Service `kubernetes`."""

    host: str
    port: int


@dataclass(frozen=True)
class Prepared:
    """What to run, and where the container's paths really are."""

    order: Order
    paths: PathMap


async def prepare(
    api: Api,
    pod: Json,
    container: Json,
    image: Image,
    *,
    attempt: int,
    place: Place,
    server: ApiServer,
    gpus: list[int],
    volumes: Volumes,
    directory: ContainerDir,
) -> Prepared:
    """Everything for one attempt, written and resolved. Raises ConfigError, ApiError."""
    directory.renew(attempt)
    base = {
        "HOME": str(directory.root),
        "HOSTNAME": pod["spec"].get("hostname") or pod["metadata"]["name"],
        "KUBERNETES_SERVICE_HOST": server.host,
        "KUBERNETES_SERVICE_PORT": str(server.port),
    }
    if gpus:
        base["NVIDIA_VISIBLE_DEVICES"] = ",".join(map(str, gpus))
    found = await environment.read_sources(api, pod["metadata"]["namespace"], container)
    before_mounts = environment.resolve(pod, container, place, found, {**image.env, **base})
    try:
        mounts = volumes.mounts(pod, container, directory.mounts, before_mounts)
    except VolumeError as error:
        raise ConfigError(str(error)) from error
    message_path = container.get("terminationMessagePath", TERMINATION_LOG)
    paths = PathMap({**image.files, message_path: str(directory.termination_log), **mounts})
    if account := mounts.get(ACCOUNT_DIR):
        directory.kubeconfig.write_text(kubeconfig(Path(account), server, pod["metadata"]["namespace"]))
        base["KUBECONFIG"] = str(directory.kubeconfig)
    command = environment.compose(pod, container, image, place, found, base, paths)
    order = Order(
        argv=command.argv,
        env=command.env,
        cwd=_working_directory(container.get("workingDir") or image.working_dir, paths, directory),
        tmp=Path(paths.locate("/tmp") or directory.tmp),
        log=directory.log(attempt),
    )
    return Prepared(order, paths)


def _working_directory(wanted: str, paths: PathMap, directory: ContainerDir) -> Path:
    """A mounted path's real place; else a directory of that name in the container's own root."""
    if wanted and (real := paths.locate(wanted)):
        return Path(real)
    own = directory.root / posixpath.normpath("/" + wanted).lstrip("/")
    own.mkdir(parents=True, exist_ok=True)
    return own


def kubeconfig(account: Path, server: ApiServer, namespace: str) -> str:
    """A kubeconfig of the pod's ServiceAccount, in JSON. The token stays in its own file, which the volume renews."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "in-cluster",
                "cluster": {
                    "server": f"https://{server.host}:{server.port}",
                    "certificate-authority": str(account / "ca.crt"),
                },
            }
        ],
        "users": [{"name": "service-account", "user": {"tokenFile": str(account / "token")}}],
        "contexts": [
            {
                "name": "in-cluster",
                "context": {"cluster": "in-cluster", "user": "service-account", "namespace": namespace},
            }
        ],
        "current-context": "in-cluster",
    }
    return json.dumps(config, indent=2) + "\n"
