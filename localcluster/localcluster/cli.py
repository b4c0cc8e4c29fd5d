"""`localcluster build | up | down | status | env | logs`."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from localcluster import binaries, cache, directory, state, supervisor
from localcluster.errors import LocalClusterError, NotUp
from localcluster.kubelet.node import NodeSpec
from localcluster.progress import Console

FOLLOW_SECONDS = 0.2


@dataclass(frozen=True)
class Flag:
    """`COMPONENT=FLAG`: a further flag for one of the components."""

    component: str
    flag: str

    @classmethod
    def parse(cls, text: str) -> Flag:
        component, equals, flag = text.partition("=")
        if not equals or not flag.startswith("-"):
            raise argparse.ArgumentTypeError(f"{text!r}: write COMPONENT=FLAG, for example kube-apiserver=--v=4")
        return cls(component, flag)


def build(options: argparse.Namespace) -> int:
    ready = binaries.build(options.binary or binaries.ALL, Console(sys.stdout, announce=True))
    for name, path in ready.items():
        print(f"{name:<26} {path}")
    return 0


def up(options: argparse.Namespace) -> int:
    started = time.monotonic()
    binaries.build(binaries.ALL, Console(sys.stdout, announce=True))
    wanted = supervisor.Options(
        directory=str(options.dir),
        nodes=tuple(f"{node.name}:{node.gpus}" for node in options.node or [NodeSpec("node-0", 8)]),
        images=str(options.images.absolute()) if options.images else None,
        prometheus=options.prometheus,
        scrape_seconds=options.scrape_seconds,
        scrape_configs=tuple(str(path.absolute()) for path in options.scrape_config),
        rules=tuple(str(path.absolute()) for path in options.rules),
        extra_flags={
            one.component: tuple(other.flag for other in options.flag if other.component == one.component)
            for one in options.flag
        },
    )

    def ready() -> None:
        print(
            f"up in {time.monotonic() - started:.1f} s; to use it: eval \"$(localcluster env --dir '{options.dir}')\""
        )

    if options.foreground:
        supervisor.run(wanted, Console(sys.stdout), ready)
    else:
        supervisor.start(wanted, Console(sys.stdout))
        ready()
    return 0


def down(options: argparse.Namespace) -> int:
    started = time.monotonic()
    if supervisor.stop(options.dir):
        print(f"down in {time.monotonic() - started:.1f} s")
    else:
        print(f"no cluster is up in {options.dir}")
    return 0


def status(options: argparse.Namespace) -> int:
    seen = state.read(options.dir)
    healths = state.healths(options.dir, seen)
    row = "{:<26} {:>8}  {:<18} {:>8}  {}"
    print(row.format("COMPONENT", "PID", "ADDRESS", "UPTIME", "HEALTH"))
    for one, health in zip(seen.components, healths, strict=True):
        print(row.format(one.name, one.pid, one.address, _span(time.time() - one.started_at), health))
    return 0 if all(health == state.READY for health in healths) else 1


def env(options: argparse.Namespace) -> int:
    seen = state.read(options.dir)
    for name, value in seen.environment.items():
        print(f"export {name}={shlex.quote(value)}")
    before = re.sub(r'(["$`\\])', r"\\\1", seen.path)
    print(f'export PATH="{before}:$PATH"')
    return 0


def logs(options: argparse.Namespace) -> int:
    files = {
        file.stem: file for pattern in (directory.SUPERVISOR_LOG, "logs/*.log") for file in options.dir.glob(pattern)
    }
    if (file := files.get(options.component)) is None:
        raise NotUp(f"{options.dir} has no log of {options.component!r}; there is {', '.join(sorted(files)) or 'none'}")
    with file.open(errors="replace") as log:
        sys.stdout.writelines(log)
        while options.follow:
            sys.stdout.flush()
            over = directory.owner(options.dir) is None
            sys.stdout.writelines(log)
            if over:
                break
            time.sleep(FOLLOW_SECONDS)
    return 0


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="localcluster", description="A real Kubernetes control plane on this machine.")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    one = commands.add_parser("build", help="build the programs that are not there yet")
    one.add_argument("binary", nargs="*", choices=[*binaries.NAMES, []], metavar="BINARY", help="by default all")
    one.set_defaults(run=build)

    one = _of_a_cluster(commands.add_parser("up", help="start a cluster and wait until it is ready"))
    one.add_argument("--node", action="append", type=_node, metavar="NAME:GPUS", help="a node (default node-0:8)")
    one.add_argument("--images", type=Path, metavar="FILE", help="which command each container image stands for")
    one.add_argument("--no-prometheus", dest="prometheus", action="store_false")
    one.add_argument("--scrape-seconds", type=float, default=2.0, metavar="N", help="Prometheus' interval (default 2)")
    one.add_argument("--scrape-config", action="append", default=[], type=Path, metavar="FILE", help="further scrapes")
    one.add_argument("--rules", action="append", default=[], type=Path, metavar="FILE", help="Prometheus' rules")
    one.add_argument("--flag", action="append", default=[], type=Flag.parse, metavar="COMPONENT=FLAG")
    one.add_argument("--foreground", action="store_true", help="stay, and end the cluster at Ctrl-C")
    one.set_defaults(run=up)

    one = _of_a_cluster(commands.add_parser("down", help="end a cluster; does nothing when none is up"))
    one.set_defaults(run=down)
    one = _of_a_cluster(commands.add_parser("status", help="what runs where; exit code 1 unless all is well"))
    one.set_defaults(run=status)
    one = _of_a_cluster(commands.add_parser("env", help="print variables for eval: KUBECONFIG, PATH, PROMETHEUS_URL"))
    one.set_defaults(run=env)

    one = _of_a_cluster(commands.add_parser("logs", help="print a component's log"))
    one.add_argument("component", help="a name that `status` shows, or supervisor")
    one.add_argument("-f", "--follow", action="store_true", help="go on until the cluster is down")
    one.set_defaults(run=logs)
    return top


def _of_a_cluster(command: argparse.ArgumentParser) -> argparse.ArgumentParser:
    command.add_argument("--name", default="default", help="which cluster (default: default)")
    command.add_argument("--dir", type=Path, help="its directory (default: clusters/NAME in the cache)")
    return command


def _node(text: str) -> NodeSpec:
    try:
        return NodeSpec.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _span(seconds: float) -> str:
    """Seconds as a person reads them: 42s, 3m10s, 2h05m."""
    minutes, rest = divmod(int(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60}h{minutes % 60:02d}m"
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"


def _attempt(options: argparse.Namespace) -> int:
    try:
        return int(options.run(options))
    except LocalClusterError as error:
        print(f"localcluster: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # `logs | head`: nobody reads the rest
        return 1


def main() -> None:
    # At either, a build or a start under way is undone. A script's background jobs begin with SIGINT ignored.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)
    options = parser().parse_args()
    if hasattr(options, "dir"):
        options.dir = (options.dir or cache.cluster_dir(options.name)).absolute()
    sys.exit(_attempt(options))
