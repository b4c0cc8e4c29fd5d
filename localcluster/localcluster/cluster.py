"""The cluster: its components started in order, ended in reverse, undone as a whole when one of them fails."""

from __future__ import annotations

import os
import shlex
import ssl
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from localcluster import binaries, directory
from localcluster.components import leader_worker_set
from localcluster.components.apiserver import AUDIT_LOG, apiserver
from localcluster.components.controller_manager import controller_manager
from localcluster.components.etcd import etcd
from localcluster.components.node_agent import node_agent
from localcluster.components.prometheus import Scraping, prometheus
from localcluster.components.scheduler import scheduler
from localcluster.errors import AlreadyUp, CommandFailed, NotReady, NotUp
from localcluster.health import why_not_ready
from localcluster.kubelet.node import NodeSpec
from localcluster.ports import Network, claim_network
from localcluster.process import Process, last_lines
from localcluster.progress import Progress, Silent
from localcluster.site import Component, Site

CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
CLIENTS = ("kubectl", "helm", "promtool")
BOOTSTRAP = Path(__file__).with_name("bootstrap.yaml")
READY_SECONDS = 90.0
POLL_SECONDS = 0.05
COMMAND_SECONDS = 60.0
DEFAULT_NODES = (NodeSpec("node-0", 8),)


class Cluster:
    """A control plane in the calling process: its programs die with it. Start it from the main thread.

    `with Cluster(directory) as cluster: cluster.kubectl("get", "nodes")`. Every start begins empty. Errors are those of
    errors.py; after one from `up` nothing is left running.
    """

    def __init__(
        self,
        path: Path,
        *,
        nodes: Sequence[NodeSpec] = DEFAULT_NODES,
        images: Path | None = None,
        prometheus: bool = True,
        kubelet: bool = True,
        audit: bool = True,
        scraping: Scraping | None = None,
        extra_flags: Mapping[str, Sequence[str]] | None = None,
        progress: Progress | None = None,
    ) -> None:
        """`path` is the cluster's directory, `images` the file that maps image names to commands (kubelet/images.py).

        `extra_flags` go to the component they name, after its own.
        """
        self.directory = path.absolute()
        self.kubeconfig = self.directory / "kubeconfig"
        self.audit_log = self.directory / AUDIT_LOG
        self._nodes, self._images = nodes, images
        self._prometheus, self._kubelet, self._audit = prometheus, kubelet, audit
        self._scraping = scraping or Scraping()
        self._extra_flags = extra_flags or {}
        self._progress = progress or Silent()
        self._network: Network | None = None
        self._site: Site | None = None
        self._tls: ssl.SSLContext | None = None
        self._stages: list[list[tuple[Component, Process]]] = []

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.down()

    def up(self) -> None:
        """Start everything and wait until it is ready. Raises LocalClusterError; then what had started is ended."""
        if self._site is not None:
            raise AlreadyUp(f"the cluster in {self.directory} is up already")
        programs = binaries.find([*CONTROL_PLANE, *CLIENTS, *(["prometheus"] if self._prometheus else [])])
        directory.claim(self.directory)
        directory.clear(self.directory)
        try:
            self._network = claim_network()
            self._site = site = Site.prepare(self.directory, self._network, programs)
            self._tls = site.client_context()
            binaries.link_into(self.directory / "bin", {name: programs[name] for name in CLIENTS})
            site.kubeconfig("admin", site.admin, self.kubeconfig.name)
            self._begin([etcd(site)])
            self._begin([apiserver(site, audit=self._audit)])
            self.kubectl("create", "--filename", str(BOOTSTRAP))
            self._begin(self._after_api_server(site))
            # Before it is there the API server refuses every pod.
            account = "/api/v1/namespaces/default/serviceaccounts/default"
            self._await_answer(site, "ServiceAccount default/default", account, "kube-controller-manager")
        except BaseException:
            self.down()
            raise

    def down(self) -> None:
        """End everything, the last started first. Logs stay. Does nothing when nothing runs."""
        while self._stages:
            stage = self._stages[-1]
            for _, process in stage:
                process.terminate()
            for component, process in stage:
                process.stop(component.grace_seconds)
            self._stages.pop()
        if self._network is not None:
            self._network.close()
        self._network, self._site, self._tls = None, None, None
        directory.forget_secrets(self.directory)

    @property
    def components(self) -> list[Component]:
        """In the order they were started."""
        return [component for stage in self._stages for component, _ in stage]

    def process(self, name: str) -> Process:
        """The process of a component. Raises NotUp when there is none of that name."""
        for stage in self._stages:
            for component, process in stage:
                if component.name == name:
                    return process
        raise NotUp(f"no component {name!r} runs in {self.directory}; there is {self._names() or 'none'}")

    def restart(self, name: str) -> None:
        """Bring a component back that was killed or stopped (`process(name)` does both), or begin it anew."""
        component = next((one for one in self.components if one.name == name), None)
        process = self.process(name)
        assert component is not None
        process.stop(component.grace_seconds)
        process.start()
        self._await_ready([(component, process)])

    def install_leader_worker_sets(self) -> None:
        """Bring LeaderWorkerSet into the running cluster. Its program must be built (`localcluster build NAME`)."""
        site = self._up()
        program = binaries.find([leader_worker_set.PROGRAM])[leader_worker_set.PROGRAM]
        port, health_port = site.network.port(), site.network.port()
        # First, so that whoever makes a set before the controller is there is refused, as with a release.
        manifest = program.with_name(leader_worker_set.WEBHOOKS)
        self.kubectl("apply", "--filename=-", stdin=leader_worker_set.webhooks(site, manifest, port))
        self.kubectl("apply", "--server-side", "--filename", str(program.with_name(leader_worker_set.KIND)))
        self._await_answer(site, "LeaderWorkerSets", leader_worker_set.PATH, "kube-apiserver")
        self._begin([leader_worker_set.leader_worker_set(site, program, port, health_port)])

    @property
    def server(self) -> str:
        """The API server's URL."""
        return self._up().api_server

    @property
    def prometheus_url(self) -> str:
        if not self._prometheus:
            raise NotUp(f"the cluster in {self.directory} was started without Prometheus")
        return f"http://{self._up().address('prometheus')}"

    @property
    def network(self) -> Network:
        return self._up().network

    def binary(self, name: str) -> Path:
        """The path of kubectl, helm, promtool or a server's program."""
        return binaries.find([name])[name]

    def environment(self) -> dict[str, str]:
        """What a shell needs to use this cluster: `localcluster env` prints it."""
        variables = {
            "KUBECONFIG": str(self.kubeconfig),
            "KUBECACHEDIR": str(self.directory / "clients" / "kubectl"),
            "HELM_CACHE_HOME": str(self.directory / "clients" / "helm-cache"),
            "HELM_CONFIG_HOME": str(self.directory / "clients" / "helm-config"),
            "HELM_DATA_HOME": str(self.directory / "clients" / "helm-data"),
            "PATH": f"{self.directory / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        }
        return {**variables, "PROMETHEUS_URL": self.prometheus_url} if self._prometheus else variables

    def kubectl(self, *arguments: str, stdin: str | None = None, seconds: float = COMMAND_SECONDS) -> str:
        """kubectl's output as the administrator. Raises CommandFailed."""
        return self._client("kubectl", *arguments, stdin=stdin, seconds=seconds)

    def helm(self, *arguments: str, seconds: float = 3 * COMMAND_SECONDS) -> str:
        """helm's output as the administrator. Raises CommandFailed."""
        return self._client("helm", *arguments, stdin=None, seconds=seconds)

    def _client(self, program: str, *arguments: str, stdin: str | None, seconds: float) -> str:
        self._up()
        command = [str(self.directory / "bin" / program), *arguments]
        try:
            result = subprocess.run(
                command, env={**os.environ, **self.environment()}, input=stdin or "", capture_output=True, text=True,
                timeout=seconds, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise CommandFailed(shlex.join([program, *arguments]), -1, f"not done within {seconds:.0f} s") from error
        if result.returncode != 0:
            raise CommandFailed(shlex.join([program, *arguments]), result.returncode, result.stderr)
        return result.stdout

    def _after_api_server(self, site: Site) -> list[Component]:
        """All of these need the API server and none of the others."""
        components = [controller_manager(site), scheduler(site)]
        if self._prometheus:
            components.append(prometheus(site, self._scraping))
        if self._kubelet:
            components.append(node_agent(site, self._nodes, self._images))
        return components

    def _begin(self, components: Iterable[Component]) -> None:
        """Start components side by side and wait until each of them is ready."""
        stage: list[tuple[Component, Process]] = []
        self._stages.append(stage)
        site = self._up()
        for component in components:
            flags = self._extra_flags.get(component.name, ())
            process = Process(component.name, [*component.argv, *flags], site.log(component.name))
            process.start()
            stage.append((component, process))
        self._await_ready(stage)

    def _await_ready(self, stage: Sequence[tuple[Component, Process]]) -> None:
        assert self._tls is not None
        deadline = time.monotonic() + READY_SECONDS
        for component, process in stage:
            with self._progress.step(component.name):
                while (why := why_not_ready(component.health, self._tls)) is not None:
                    self._check_all()
                    if time.monotonic() > deadline:
                        raise NotReady(component.name, READY_SECONDS, why, process.log, last_lines(process.log))
                    time.sleep(POLL_SECONDS)
                process.check()  # another process might have answered in its place

    def _await_answer(self, site: Site, what: str, path: str, maker: str) -> None:
        """Until the API server has what is at this path; `maker` is the component that is to make it."""
        assert self._tls is not None
        deadline = time.monotonic() + READY_SECONDS
        while why_not_ready(f"{site.api_server}{path}", self._tls) is not None:
            self._check_all()
            if time.monotonic() > deadline:
                log = site.log(maker)
                raise NotReady(what, READY_SECONDS, "not made", log, last_lines(log))
            time.sleep(POLL_SECONDS)

    def _check_all(self) -> None:
        for stage in self._stages:
            for _, process in stage:
                process.check()

    def _up(self) -> Site:
        if self._site is None:
            raise NotUp(f"the cluster in {self.directory} is not up")
        return self._site

    def _names(self) -> str:
        return ", ".join(component.name for component in self.components)
