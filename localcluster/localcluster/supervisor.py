"""The process that owns a cluster's programs: `localcluster up` starts it, waits for its word and leaves.

SIGTERM or SIGINT ends the cluster in order. SIGKILL ends it too: the kernel kills its programs (process.py). Whoever
started it listens on a pipe; when that breaks before the cluster is ready, nobody waits for it, and it goes down again.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from localcluster import directory, state
from localcluster.cluster import Cluster
from localcluster.components.prometheus import Scraping
from localcluster.errors import ComponentDied, LocalClusterError
from localcluster.kubelet.node import NodeSpec
from localcluster.process import last_lines
from localcluster.progress import Progress

log = logging.getLogger("localcluster.supervisor")
WATCH_SECONDS = 1.0
STOP_SECONDS = 60.0


@dataclass(frozen=True)
class Options:
    """`localcluster up`'s options as plain values, so that they can be handed over as JSON."""

    directory: str
    nodes: tuple[str, ...]
    images: str | None
    prometheus: bool
    scrape_seconds: float
    scrape_configs: tuple[str, ...]
    rules: tuple[str, ...]
    extra_flags: Mapping[str, tuple[str, ...]]

    def cluster(self, progress: Progress) -> Cluster:
        return Cluster(
            Path(self.directory),
            nodes=[NodeSpec.parse(node) for node in self.nodes],
            images=Path(self.images) if self.images else None,
            prometheus=self.prometheus,
            scraping=Scraping(
                self.scrape_seconds, [Path(p) for p in self.scrape_configs], [Path(p) for p in self.rules]
            ),
            extra_flags=self.extra_flags,
            progress=progress,
        )


def _paths(texts: Sequence[str]) -> list[Path]:
    return [Path(text) for text in texts]


class Stop(BaseException):
    """Somebody asked for the end."""


class Report:
    """Progress as lines of JSON into a pipe. Raises BrokenPipeError once nobody reads them."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        self.send(begin=name)
        yield
        self.send(end=name)

    def ready(self) -> None:
        """The last word."""
        self.send(ready="")
        os.close(self._pipe)
        log.info("ready")

    def send(self, **message: str) -> None:
        os.write(self._pipe, json.dumps(message).encode() + b"\n")


def run(options: Options, progress: Progress, on_ready: Callable[[], None]) -> None:
    """Bring the cluster up, say so, stay until Stop, bring it down. Raises LocalClusterError."""
    path = Path(options.directory)
    directory.claim(path)
    with directory.locked(path), _stop_on_signals():
        cluster = options.cluster(progress)
        try:
            cluster.up()
            state.write(cluster)
            on_ready()
            _watch(cluster)
        except Stop:
            log.info("stopping")
        finally:
            _ignore_signals()
            (path / state.FILE).unlink(missing_ok=True)
            cluster.down()


def start(options: Options, progress: Progress) -> None:
    """Start a supervisor apart from this process and wait until its cluster is up. Raises LocalClusterError."""
    path = Path(options.directory)
    directory.claim(path)
    ours, theirs = os.pipe()
    with (path / directory.SUPERVISOR_LOG).open("ab") as output:
        supervisor = subprocess.Popen(
            [sys.executable, "-m", "localcluster.supervisor", str(theirs), json.dumps(asdict(options))],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=[theirs],
            start_new_session=True,
            cwd="/",
        )
    os.close(theirs)
    try:
        with open(ours) as report:
            _relay(report, progress, path / directory.SUPERVISOR_LOG)
    except BaseException:
        supervisor.terminate()
        supervisor.wait()
        raise
    supervisor.returncode = 0  # it lives on without us: no warning about a child that was not waited for


def stop(path: Path) -> bool:
    """End the cluster in `path`; False when none is up. Returns when every process is gone."""
    pid = directory.owner(path)
    if pid is None:
        directory.forget_secrets(path)
        return False
    try:
        supervisor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        for number in (signal.SIGTERM, signal.SIGKILL):
            signal.pidfd_send_signal(supervisor, number)
            # Its lock is free a moment before it has ended.
            if select.select([supervisor], [], [], STOP_SECONDS)[0]:
                return True
    except ProcessLookupError:
        return True
    finally:
        os.close(supervisor)
    raise LocalClusterError(f"the supervisor in {path} (pid {pid}) does not end, not even by SIGKILL")


def _relay(report: TextIO, progress: Progress, supervisor_log: Path) -> None:
    """Show the supervisor's steps as ours until it says ready; a failure it reports fails the step under way."""
    with contextlib.ExitStack() as step:
        for line in report:
            message: dict[str, str] = json.loads(line)
            if "begin" in message:
                step.enter_context(progress.step(message["begin"]))
            elif "end" in message:
                step.close()
            elif "failed" in message:
                raise LocalClusterError(message["failed"])
            else:
                return
        raise LocalClusterError(f"the supervisor died; the last lines of its log:\n{last_lines(supervisor_log)}")


def _watch(cluster: Cluster) -> None:
    """Until Stop. A component that dies stays dead, so that its end can be looked at; the log and `status` tell it."""
    dead: set[str] = set()
    while True:
        for component in cluster.components:
            try:
                cluster.process(component.name).check()
            except ComponentDied as error:
                if component.name not in dead:
                    log.error("%s", error)
                dead.add(component.name)
        time.sleep(WATCH_SECONDS)


@contextlib.contextmanager
def _stop_on_signals() -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise Stop

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ignore_signals() -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    fields: dict[str, Any] = json.loads(sys.argv[2])
    report = Report(int(sys.argv[1]))
    try:
        run(Options(**fields), report, report.ready)
    except LocalClusterError as error:
        log.error("%s", error)
        report.send(failed=str(error))
        sys.exit(1)
    except BrokenPipeError:
        log.error("nobody waits for this cluster any more; it is down")
        sys.exit(1)


if __name__ == "__main__":
    main()
