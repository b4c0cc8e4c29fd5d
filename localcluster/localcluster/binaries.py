"""The control plane's programs: found where they are ready, built once from the pinned Go modules where not.

A program is looked for in `$KUBEBUILDER_ASSETS` (the folder that envtest uses), then in the cache, in a folder named by
what it was built from: `bin/<group>-<hash of go.mod, go.sum and flags>/`. So a changed pin builds anew beside the old.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from localcluster import cache
from localcluster.errors import BuildFailed, NotBuilt
from localcluster.process import last_lines
from localcluster.progress import Progress
from localcluster.toolchain import go_command

TOOLS = Path(__file__).resolve().parents[1] / "tools"
GO_FLAGS = "-trimpath -mod=readonly -modcacherw"
LINKER_FLAGS = "-s -w"
BUILD_SECONDS = 3600


@dataclass(frozen=True)
class Group:
    """Programs that share a go.mod. Groups are apart because their requirements differ."""

    name: str
    packages: Mapping[str, str]
    tags: str = ""
    stamped: Mapping[str, str] = field(default_factory=dict)
    """Variables that a release build sets to its version, by the module whose version that is."""
    only_when_named: bool = False
    """Whether `build` leaves it out unless it is asked for: no cluster needs it."""
    manifests: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """What is kept beside its programs, by name: a module, and a file in it."""

    @property
    def module(self) -> Path:
        return TOOLS / self.name

    def folder(self) -> Path:
        """Where the cache keeps this group's programs."""
        content = hashlib.sha256(repr((GO_FLAGS, self.linker_flags(), self.tags)).encode())
        if self.manifests:
            content.update(repr(sorted(self.manifests.items())).encode())
        for file in ("go.mod", "go.sum"):
            content.update((self.module / file).read_bytes())
        return cache.binaries_dir() / f"{self.name}-{content.hexdigest()[:16]}"

    def linker_flags(self) -> str:
        """Strips debug data, and stamps what a release build would."""
        stamps = (f"-X {variable}={self._version(module)}" for variable, module in self.stamped.items())
        return " ".join([LINKER_FLAGS, *stamps])

    def _version(self, module: str) -> str:
        required = re.search(
            rf"^\s*(?:require )?{re.escape(module)} (v\S+)", (self.module / "go.mod").read_text(), re.M
        )
        if required is None:
            raise BuildFailed(f"{self.module / 'go.mod'} does not require {module}")
        return required[1]


GROUPS = (
    Group(
        "kubernetes",
        {
            "etcd": "go.etcd.io/etcd/server/v3",
            "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
            "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
            "kube-scheduler": "k8s.io/kubernetes/cmd/kube-scheduler",
            "kubectl": "k8s.io/kubernetes/cmd/kubectl",
        },
        # Without it the API server calls itself v0.0.0, which helm refuses for a chart with a kubeVersion.
        stamped={"k8s.io/component-base/version.gitVersion": "k8s.io/kubernetes"},
    ),
    Group("helm", {"helm": "helm.sh/helm/v4/cmd/helm"}),
    Group(
        "prometheus",
        {
            "prometheus": "github.com/prometheus/prometheus/cmd/prometheus",
            "promtool": "github.com/prometheus/prometheus/cmd/promtool",
        },
        # Of the service discoveries only what scrapes a cluster: half the size and build time.
        tags="netgo,remove_all_sd,enable_kubernetes_sd,enable_static_sd,enable_file_sd",
    ),
    Group("kwok", {"kwok": "sigs.k8s.io/kwok/cmd/kwok"}, only_when_named=True),
    Group(
        "lws",
        {"lws-controller": "sigs.k8s.io/lws/cmd"},
        only_when_named=True,
        manifests={
            "kind.yaml": ("sigs.k8s.io/lws", "config/crd/bases/leaderworkerset.x-k8s.io_leaderworkersets.yaml"),
            "webhooks.yaml": ("sigs.k8s.io/lws", "config/webhook/manifests.yaml"),
        },
    ),
)
ALL = tuple(name for group in GROUPS if not group.only_when_named for name in group.packages)
"""What a cluster needs."""
NAMES = tuple(name for group in GROUPS for name in group.packages)


def find(names: Iterable[str] = ALL) -> dict[str, Path]:
    """The ready programs by name. Raises NotBuilt, which names what is missing."""
    found = located()
    if missing := [name for name in names if name not in found]:
        named = [] if set(missing) <= set(ALL) else missing
        raise NotBuilt(f"not built yet: {', '.join(missing)}; run `{' '.join(['localcluster build', *named])}`")
    return {name: found[name] for name in names}


def located() -> dict[str, Path]:
    """Every program that is ready now."""
    candidates = ((name, path) for group in GROUPS for name in group.packages for path in _places(group, name))
    found: dict[str, Path] = {}
    for name, path in candidates:
        if name not in found and os.access(path, os.X_OK) and path.is_file():
            found[name] = path
    return found


def build(names: Iterable[str], progress: Progress) -> dict[str, Path]:
    """Build what is missing, one program after the other; what is done stays done. Raises BuildFailed."""
    names = list(names)
    if all(name in located() for name in names):
        return find(names)
    with _only_builder(progress):
        for group in GROUPS:
            for name, package in group.packages.items():
                if name in names and name not in located():
                    go = go_command(group.module, progress)
                    with progress.step(f"build {name}"):
                        _build(go, group, name, package)
    return find(names)


def _places(group: Group, name: str) -> Iterator[Path]:
    if assets := os.environ.get("KUBEBUILDER_ASSETS"):
        yield Path(assets, name).absolute()
    yield group.folder() / name


def _build(go: Path, group: Group, name: str, package: str) -> None:
    folder = group.folder()
    folder.mkdir(parents=True, exist_ok=True)
    log, unfinished = folder / f"{name}.log", folder / f".{name}.unfinished"
    command = [
        str(go),
        "build",
        "-v",
        f"-ldflags={group.linker_flags()}",
        f"-tags={group.tags}",
        "-o",
        str(unfinished),
        package,
    ]
    with log.open("wb") as output:
        try:
            result = subprocess.run(
                command, cwd=group.module, env=_go_environment(), stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.STDOUT, timeout=BUILD_SECONDS, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise BuildFailed(f"{name}: not built within {BUILD_SECONDS} s; the log is {log}") from None
    if result.returncode != 0:
        unfinished.unlink(missing_ok=True)
        raise BuildFailed(
            f"{name}: `go build {package}` in {group.module} ended with exit code {result.returncode}; "
            f"the last lines of {log}:\n{last_lines(log)}"
        )
    for file, (module, path) in group.manifests.items():
        shutil.copyfile(_module_directory(go, group, module) / path, folder / file)
    unfinished.rename(folder / name)


def _module_directory(go: Path, group: Group, module: str) -> Path:
    """Where Go keeps the sources of a module that a program of the group was just built from."""
    command = [str(go), "list", "-m", "-f", "{{.Dir}}", module]
    found = subprocess.run(command, cwd=group.module, env=_go_environment(), capture_output=True, text=True, check=True)
    return Path(found.stdout.strip())


def _go_environment() -> dict[str, str]:
    """Go's own caches go below ours, unless the user has put them somewhere."""
    own = {"GOCACHE": str(cache.cache_dir() / "go" / "build"), "GOMODCACHE": str(cache.cache_dir() / "go" / "modules")}
    return {**own, **os.environ, "CGO_ENABLED": "0", "GOFLAGS": GO_FLAGS, "GOTOOLCHAIN": "local", "GOWORK": "off"}


@contextmanager
def _only_builder(progress: Progress) -> Iterator[None]:
    cache.binaries_dir().mkdir(parents=True, exist_ok=True)
    with (cache.binaries_dir() / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with progress.step("wait for another build"):
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def link_into(folder: Path, binaries: Mapping[str, Path]) -> None:
    """Make `folder` a PATH entry with these programs."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, path in binaries.items():
        (folder / name).symlink_to(path)
