"""The engine as its container runs it: `shift-engine serve`, GET /shift, the metrics, a schedule file that changes."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

CHECKOUT = Path(__file__).parents[3]
SHIFT_ENGINE = Path(sys.executable).with_name("shift-engine")
START_SECONDS, CHANGE_SECONDS = 200, 15
POD_IP = "127.77.0.5"


@dataclass
class Served:
    """A running engine."""

    process: subprocess.Popen[bytes]
    http: httpx.Client
    volume: Path
    termination_log: Path

    def shift(self) -> dict[str, Any]:
        answer = self.http.get("/shift")
        assert answer.status_code == 200
        return dict(answer.json())

    def complete(self, prompt: str, tokens: int = 8) -> dict[str, Any]:
        asked = {"model": "chat", "prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": True}
        answer = self.http.post("/v1/completions", json=asked)
        assert answer.status_code == 200, answer.text
        return dict(answer.json()["choices"][0])

    def mount(self, text: str) -> None:
        """Swap the ConfigMap volume's content as a kubelet does: a new directory, then the symlink ..data renamed."""
        data = self.volume / f"..{time.monotonic_ns()}"
        data.mkdir()
        (data / "schedule.json").write_text(text)
        (self.volume / "..data_tmp").symlink_to(data.name)
        os.replace(self.volume / "..data_tmp", self.volume / "..data")

    def until(self, what: str, is_so: Any) -> dict[str, Any]:
        deadline = time.monotonic() + CHANGE_SECONDS
        while time.monotonic() < deadline:
            shift = self.shift()
            if is_so(shift):
                return shift
            time.sleep(0.1)
        raise AssertionError(f"{what} not within {CHANGE_SECONDS} s: {self.shift()}")

    def metrics(self) -> dict[str, Any]:
        """The families by name, of a scrape in Prometheus's own text format."""
        text = self.http.get("/metrics", headers={"accept": "text/plain"}).text
        return {family.name: family for family in text_string_to_metric_families(text)}


def schedule(generation: int, *bounds: int) -> str:
    degrees = [{"sequence": 1, "tensor": 2}, {"sequence": 2, "tensor": 1}]
    ranges = [{"upToTokens": n, **degrees[i % 2]} for i, n in enumerate(bounds)] + [degrees[len(bounds) % 2]]
    return json.dumps({"generation": generation, "ranges": ranges})


@pytest.fixture(scope="module")
def served(model: Path, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """An engine that started with generation 7 in its schedule file."""
    with serving(model, environment, tmp_path_factory.mktemp("served"), schedule(7, 100)) as engine:
        yield engine


@contextlib.contextmanager
def serving(model: Path, environment: dict[str, str], directory: Path, text: str | None) -> Iterator[Served]:
    """An engine on two ranks whose schedule file says `text` when it starts, or is not there."""
    volume, log, end = directory / "etc-shift", directory / "log", directory / "termination-log"
    volume.mkdir()
    (volume / "schedule.json").symlink_to("..data/schedule.json")
    with socket.socket() as free:
        free.bind((POD_IP, 0))
        port = free.getsockname()[1]
    command = [
        *(SHIFT_ENGINE, "serve", model, "--served-model-name", "chat", "--host", POD_IP, "--port", str(port)),
        *("--tensor-parallel-size", "2", "--shift-degree", "2x1"),
        *("--shift-schedule-file", volume / "schedule.json"),
        *("--enforce-eager", "--dtype", "float32", "--max-num-batched-tokens", "512", "--max-model-len", "2048"),
    ]
    with log.open("w") as out:
        process = subprocess.Popen(
            command,
            env=environment | {"SHIFT_TERMINATION_LOG": str(end)},
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    engine = Served(process, httpx.Client(base_url=f"http://{POD_IP}:{port}", timeout=60), volume, end)
    if text is not None:
        engine.mount(text)
    try:
        wait_until_healthy(engine, log)
        yield engine
    finally:
        engine.http.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


def wait_until_healthy(engine: Served, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and engine.process.poll() is None:
        try:
            if engine.http.get("/health").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.3)
    raise AssertionError(f"not healthy, exit code {engine.process.poll()}:\n{log.read_text()[-4000:]}")


def test_the_first_healthy_engine_runs_the_file_not_the_flags(served: Served) -> None:
    shift = served.shift()
    assert shift["schedule"] == json.loads(schedule(7, 100))
    assert shift["file"]["state"] == "Applied"
    assert [(rank["rank"], rank["generation"]) for rank in shift["ranks"]] == [(0, 7), (1, 7)]


def test_get_shift_has_the_contracts_fields(served: Served) -> None:
    page = (CHECKOUT / "docs" / "contract.md").read_text()
    example = json.loads(page.split("## 3. GET /shift")[1].split("```json")[1].split("```")[0])
    shift = served.shift()
    assert shape(shift) == shape(example)
    assert shift["version"] == "0.1.0"
    assert shift["vllm"] == "0.32.0"
    assert (shift["model"], shift["gpus"], shift["maxBatchedTokens"]) == ("chat", 2, 512)
    assert shift["overlay"] == {"active": True, "reason": None}
    assert shift["calibration"]["state"] == "Done"


def test_prompts_of_both_sizes_are_answered_and_run_at_their_degree(served: Served) -> None:
    assert len(served.complete("The quick brown fox")["text"]) > 0
    served.complete("jumps over the lazy dog " * 100, tokens=2)
    messages = {"model": "chat", "messages": [{"role": "user", "content": "Tell me of a ship."}], "max_tokens": 4}
    assert served.http.post("/v1/chat/completions", json=messages).status_code == 200
    served.until("both degrees counted", lambda _: both_degrees_ran(served.metrics()))


def test_the_metrics_are_those_of_the_contract(served: Served) -> None:
    page = (CHECKOUT / "docs" / "contract.md").read_text().split("## 4. Metrics")[1].split("## 5.")[0]
    rows = re.findall(r"^\| `(\w+)` \| (\w+)[^|]*\| ([^|]*)\|", page, flags=re.MULTILINE)
    assert len(rows) > 10
    families = served.metrics()
    for name, kind, labels in rows:
        family = families[name.removesuffix("_total") if kind == "counter" else name]
        assert family.type == kind
        for sample in family.samples:
            wanted = {label for label in labels.replace(",", " ").split() if label} | {"model_name"}
            assert sample.labels.keys() - {"le"} == wanted, name
            assert sample.labels["model_name"] == "chat"
    ours = {name for name in families if name.startswith("shift_")}
    assert ours == {name.removesuffix("_total") if kind == "counter" else name for name, kind, _ in rows}
    assert value(families["shift_threshold_tokens"]) == 100
    assert value(families["shift_schedule_generation"]) == 7
    assert value(families["shift_schedule_ranks_confirmed"]) == 2
    assert "vllm:num_requests_running" in families


def test_a_changed_configmap_reaches_every_rank(served: Served) -> None:
    served.mount(schedule(8, 40))
    shift = served.until("generation 8", lambda s: s["file"]["generation"] == 8 and s["file"]["state"] == "Applied")
    assert [rank["generation"] for rank in shift["ranks"]] == [8, 8]
    assert len({rank["step"] for rank in shift["ranks"]}) == 1
    assert value(served.metrics()["shift_threshold_tokens"]) == 40


def test_a_broken_file_changes_nothing_and_is_said(served: Served) -> None:
    served.mount('{"generation": 9, "ranges": [')
    shift = served.until("a syntax fault", lambda s: s["file"]["state"] == "Invalid")
    assert "the file is no JSON" in shift["file"]["error"]
    assert shift["schedule"] == json.loads(schedule(8, 40))
    served.mount(json.dumps({"generation": 9, "ranges": [{"sequence": 4, "tensor": 1}]}))
    served.until("a degree fault", lambda s: "degree 4x1 is not loaded" in (s["file"]["error"] or ""))
    families = served.metrics()
    refused = {s.labels["reason"]: s.value for s in families["shift_schedule_errors"].samples}
    assert refused == {"Syntax": 1, "Degree": 1}  # once each, not at every look
    assert value(families["shift_schedule_file_valid"]) == 0
    served.mount(schedule(10, 60))
    served.until("generation 10", lambda s: s["file"]["state"] == "Applied" and s["schedule"]["generation"] == 10)
    assert value(served.metrics()["shift_schedule_file_valid"]) == 1


def test_a_file_that_goes_leaves_the_schedule(served: Served) -> None:
    (served.volume / "..data").unlink()
    shift = served.until("missing", lambda s: s["file"]["state"] == "Missing")
    assert shift["schedule"] == json.loads(schedule(10, 60))


def test_schedules_change_under_load_and_every_answer_is_the_same(served: Served) -> None:
    prompt = "Small steps want the weights split, large steps want the tokens split. " * 8
    served.mount(schedule(100, 10**6))
    served.until("never", lambda s: s["schedule"]["generation"] == 100)
    before = served.complete(prompt, tokens=24)["text"]
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(served.complete, prompt, 24) for _ in range(24)]
        for generation in range(101, 113):
            served.mount(schedule(generation, 10 + generation % 7))
            served.until(f"{generation}", lambda s, g=generation: [r["generation"] for r in s["ranks"]] == [g, g])
        answers = {future.result()["text"] for future in asked}
    assert answers == {before}
    assert served.shift()["file"]["error"] is None


def test_sigterm_ends_it_with_code_0_and_without_a_message(served: Served) -> None:
    """The engine is gone after it."""
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(60) == 0
    assert not served.termination_log.exists()


def shape(value: Any) -> Any:
    """The keys of a document, lists by their first element."""
    if isinstance(value, dict):
        return {key: shape(each) for key, each in value.items()}
    return [shape(value[0])] if isinstance(value, list) else None


def value(family: Any) -> float:
    [sample] = family.samples
    return float(sample.value)


def both_degrees_ran(families: dict[str, Any]) -> bool:
    steps = {(s.labels["sequence"], s.labels["tensor"]): s.value for s in families["shift_steps"].samples}
    tokens = {s.labels["sequence"]: s.value for s in families["shift_batched_tokens"].samples if s.name.endswith("sum")}
    return steps[("1", "2")] > 0 and steps[("2", "1")] > 0 and tokens["2"] > 100


def test_a_file_may_come_later_and_a_rank_that_dies_ends_the_engine_with_its_reason(
    model: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    with serving(model, environment, tmp_path, None) as engine:
        shift = engine.shift()
        assert shift["file"]["state"] == "Missing"
        assert shift["schedule"]["generation"] == 0
        engine.mount(schedule(1, 50))
        engine.until("generation 1", lambda s: [rank["generation"] for rank in s["ranks"]] == [1, 1])
        ranks = [
            p for p in psutil.Process(engine.process.pid).children(recursive=True) if "Worker_TP1" in p.cmdline()[0]
        ]
        ranks[0].kill()
        assert engine.process.wait(60) == 1
        assert "died unexpectedly" in engine.termination_log.read_text()
