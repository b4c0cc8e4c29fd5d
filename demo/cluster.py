"""The local cluster as a user sees it: `localcluster`; kubectl, helm and Prometheus through `localcluster env`."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import aiohttp

from demo.commands import run
from demo.environment import Environment
from demo.narration import Step, StepFailed

NAME = "demo"
COMMAND_SECONDS = 60.0


class LocalCluster:
    """Brings the demo's cluster up and down and runs clients against it."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._exports: dict[str, str] = {}

    @property
    def directory(self) -> Path:
        return self._environment.work / "cluster"

    async def build(self, step: Step) -> None:
        """Build the control plane's binaries, or find them in the cache."""
        await self._localcluster("build", step=step, within=3600)

    async def up(self, step: Step) -> None:
        """Bring the cluster up: one node with 8 GPUs. A cluster left over by an earlier run goes down first."""
        await self.down()
        images = str(self._environment.images)
        await self._localcluster("up", "--node", "node-0:8", "--images", images, step=step, within=180)
        self._exports = exports(await self._localcluster("env", within=COMMAND_SECONDS))

    async def down(self, step: Step | None = None) -> None:
        await self._localcluster("down", step=step, within=120)

    async def kubectl(self, *arguments: str, within: float = COMMAND_SECONDS, stdin: str | None = None) -> str:
        return await self._client("kubectl", *arguments, within=within, stdin=stdin)

    async def helm(self, *arguments: str, within: float = 180, step: Step | None = None) -> str:
        return await self._client("helm", *arguments, within=within, step=step)

    async def get(self, *arguments: str) -> Any:
        """`kubectl get ... -o json`, parsed."""
        return json.loads(await self.kubectl("get", *arguments, "-o", "json"))

    async def query(self, promql: str) -> float | None:
        """The value of a Prometheus query that yields one sample; None where it yields none."""
        url = f"{self.prometheus_url}/api/v1/query"
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session,
            session.get(url, params={"query": promql}) as response,
        ):
            body = await response.json()
        if body.get("status") != "success":
            raise StepFailed("Prometheus", f"`{promql}` was refused: {body.get('error')}")
        samples = body["data"]["result"]
        return float(samples[0]["value"][1]) if samples else None

    @property
    def prometheus_url(self) -> str:
        return self._exports["PROMETHEUS_URL"]

    def command(self, verb: str) -> str:
        """`localcluster VERB` for this cluster, as a user can paste it."""
        localcluster = self._environment.checkout / ".venv" / "control" / "bin" / "localcluster"
        return f"{localcluster} {verb} --dir {self.directory}"

    async def _client(
        self, binary: str, *arguments: str, within: float, step: Step | None = None, stdin: str | None = None
    ) -> str:
        if not self._exports:
            raise StepFailed("local cluster", "it is not up")
        variables = {**self._environment.variables(), **self._exports}
        path = next(
            (
                Path(folder) / binary
                for folder in variables["PATH"].split(os.pathsep)
                if (Path(folder) / binary).exists()
            ),
            Path(binary),
        )
        return await run(path, *arguments, part=binary, variables=variables, within=within, step=step, stdin=stdin)

    async def _localcluster(self, verb: str, *arguments: str, within: float, step: Step | None = None) -> str:
        command: list[str | Path] = [self._environment.control_python, "-m", "localcluster", verb]
        if verb != "build":
            command += ["--dir", self.directory]
        return await run(
            *command,
            *arguments,
            part="local cluster",
            variables=self._environment.variables(),
            within=within,
            step=step,
        )


def exports(text: str) -> dict[str, str]:
    """Parse the `export NAME=value` lines of `localcluster env`; `$PATH` stands for the present one."""
    found = {}
    for name, value in re.findall(r"^export (\w+)=(.*)$", text, flags=re.MULTILINE):
        found[name] = (
            value.strip("'\"")
            .replace("$PATH", os.environ.get("PATH", ""))
            .replace("${PATH}", os.environ.get("PATH", ""))
        )
    return found
