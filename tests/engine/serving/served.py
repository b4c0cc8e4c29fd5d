"""An engine as its container runs it, `shift-engine serve` on two ranks, and the kubelet's part in it."""

import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families
from warm import Fork, WarmVllm, end_group

SHIFT_ENGINE = Path(sys.executable).with_name("shift-engine")
START_SECONDS, CHANGE_SECONDS, END_SECONDS = 600, 240, 280  # a machine may have more work than cores
POD_IP = "127.77.0.5"
# These engines are eager, but vLLM compiles parts of its sampler all the same, anew in each rank. tests/e2e has it so.
EAGER = {"TORCH_COMPILE_DISABLE": "1"}

Process = subprocess.Popen[bytes] | Fork


@dataclass
class Served:
    """A running engine."""

    process: Process
    http: httpx.Client
    volume: Path
    termination_log: Path
    log: Path

    def shift(self) -> dict[str, Any]:
        answer = self.http.get("/shift")
        assert answer.status_code == 200
        return dict(answer.json())

    def complete(self, prompt: str, tokens: int = 8) -> dict[str, Any]:
        asked = {"model": "chat", "prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": True}
        answer = self.http.post("/v1/completions", json=asked)
        assert answer.status_code == 200, answer.text
        return dict(answer.json()["choices"][0])

    def stream(self, prompt: str, tokens: int, begun: threading.Event | None = None) -> str:
        """The text of a streamed answer, which must have so many tokens; `begun` is set at its first part."""
        asked = {"model": "chat", "prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": True}
        usage = {"stream": True, "stream_options": {"include_usage": True}}
        with self.http.stream("POST", "/v1/completions", json=asked | usage, timeout=600) as answer:
            assert answer.status_code == 200
            lines = []
            for line in answer.iter_lines():
                lines += [line.removeprefix("data: ")] if line else []
                if begun is not None:
                    begun.set()
        *parts, end = lines
        assert end == "[DONE]"
        documents = [json.loads(part) for part in parts]
        assert documents[-1]["usage"]["completion_tokens"] == tokens
        return "".join(document["choices"][0]["text"] for document in documents if document["choices"])

    def mount(self, text: str) -> None:
        """Swap the ConfigMap volume's content as a kubelet does: a new directory, then the symlink ..data renamed."""
        data = self.volume / f"..{time.monotonic_ns()}"
        data.mkdir()
        (data / "schedule.json").write_text(text)
        (self.volume / "..data_tmp").symlink_to(data.name)
        os.replace(self.volume / "..data_tmp", self.volume / "..data")

    def until(self, what: str, is_so: Any, seconds: float = CHANGE_SECONDS) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            shift = self.shift()
            if is_so(shift):
                return shift
            time.sleep(0.1)
        raise AssertionError(f"{what} not within {seconds} s: {self.shift()}")

    def metrics(self) -> dict[str, Any]:
        """The families by name, of a scrape in Prometheus's own text format."""
        text = self.http.get("/metrics", headers={"accept": "text/plain"}).text
        return {family.name: family for family in text_string_to_metric_families(text)}


@dataclass
class Ended:
    """An engine that did not start."""

    code: int
    log: str
    message: str  # the container's termination message


def ended(warm: WarmVllm | None, command: Sequence[str | Path], environment: dict[str, str], directory: Path) -> Ended:
    """How a command ended."""
    log, end = directory / "log", directory / "end"
    process = begin(warm, command, environment, log, end)
    try:
        code = process.wait(END_SECONDS)
    finally:
        end_group(process)
    return Ended(code, log.read_text(), end.read_text())


def schedule(generation: int, *bounds: int) -> str:
    degrees = [{"sequence": 1, "tensor": 2}, {"sequence": 2, "tensor": 1}]
    ranges = [{"upToTokens": n, **degrees[i % 2]} for i, n in enumerate(bounds)] + [degrees[len(bounds) % 2]]
    return json.dumps({"generation": generation, "ranges": ranges})


def free_port() -> int:
    """Of every address, below the ports that Linux gives out by itself (ip_local_port_range): a connection of another
    engine would take one of those before this one is used."""
    while True:
        port = random.SystemRandom().randrange(16_000, 32_000)
        with socket.socket() as free, contextlib.suppress(OSError):
            free.bind(("", port))
            return port


def begin(
    warm: WarmVllm | None, command: Sequence[str | Path], environment: dict[str, str], log: Path, end: Path
) -> Process:
    """Start a Python script as a container's command, which leaves its last words in `end`: as a fork of a process that
    has imported vLLM, or, where there is none, as a container is started. It leads a process group."""
    environment = environment | {"SHIFT_TERMINATION_LOG": str(end)}
    if warm is not None:
        return warm.start(Path(command[0]), command[1:], log, environment)
    with log.open("w") as out:
        return subprocess.Popen(command, env=environment, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)


@contextlib.contextmanager
def serving(
    warm: WarmVllm | None,
    model: Path | str,
    environment: dict[str, str],
    directory: Path,
    text: str | None,
    *flags: str,
    degree: str = "2x1",
    port: int | None = None,
) -> Iterator[Served]:
    """An engine on two ranks whose schedule file says `text` when it starts, or is not there."""
    port = port or free_port()
    volume, log, end = directory / "etc-shift", directory / "log", directory / "termination-log"
    volume.mkdir()
    (volume / "schedule.json").symlink_to("..data/schedule.json")
    command = [
        *serve(model, port, degree),
        *("--shift-schedule-file", volume / "schedule.json", *flags),
    ]
    process = begin(warm, command, environment | EAGER, log, end)
    engine = Served(process, httpx.Client(base_url=f"http://{POD_IP}:{port}", timeout=240), volume, end, log)
    if text is not None:
        engine.mount(text)
    try:
        wait_until_healthy(engine, log)
        yield engine
    finally:
        engine.http.close()
        end_group(process)


def serve(model: Path | str, port: int, degree: str) -> list[str | Path]:
    """What all containers of a replica on two ranks have in common."""
    return [
        *(SHIFT_ENGINE, "serve", model, "--served-model-name", "chat", "--host", POD_IP, "--port", str(port)),
        *("--tensor-parallel-size", "2", "--shift-degree", degree),
        *("--enforce-eager", "--dtype", "float32", "--max-num-batched-tokens", "512", "--max-num-seqs", "96"),
        *("--max-model-len", "2048"),
    ]


def wait_until_healthy(engine: Served, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and engine.process.poll() is None:
        try:
            if engine.http.get("/health").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.3)
    raise AssertionError(f"not healthy, exit code {engine.process.poll()}:\n{log.read_text()[-4000:]}")
