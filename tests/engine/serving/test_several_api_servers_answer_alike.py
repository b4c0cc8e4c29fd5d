"""`--api-server-count 2`: two API processes share the port; either answers for the engine, and only one watches."""

import json
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families
from served import CHANGE_SECONDS, Served, schedule, serving
from warm import WarmVllm

FLAGS = ("--api-server-count", "2", "--shutdown-timeout", str(CHANGE_SECONDS))


@dataclass
class Door:
    """A connection that stays with one API process."""

    http: httpx.Client
    pid: int

    def shift(self) -> dict[str, Any]:
        return dict(self.http.get("/shift").json())

    def metrics(self) -> dict[str, Any]:
        text = self.http.get("/metrics", headers={"accept": "text/plain"}).text
        return {family.name: family for family in text_string_to_metric_families(text)}

    def complete(self) -> None:
        asked = {"model": "chat", "prompt": "The quick brown fox", "max_tokens": 4, "ignore_eos": True}
        assert self.http.post("/v1/completions", json=asked).status_code == 200


@pytest.fixture(scope="module")
def served(
    warm: WarmVllm, model: Path, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    directory = tmp_path_factory.mktemp("two-api-servers")
    with serving(warm, model, environment, directory, schedule(7, 100), *FLAGS) as engine:
        yield engine


@pytest.fixture(scope="module")
def doors(served: Served) -> Iterator[list[Door]]:
    """A connection to each process: vLLM lets the one with fewer connections accept, so the kept ones spread."""
    clients, found = [], {}
    for _ in range(50):
        client = httpx.Client(base_url=served.http.base_url, timeout=240)
        clients.append(client)
        client.get("/health")
        door = Door(client, process_at_the_other_end(served, client))
        found.setdefault(door.pid, door)
        if len(found) == 2:
            break
    assert len(found) == 2
    yield list(found.values())
    for client in clients:
        client.close()


def test_each_process_answers_get_shift_alike(served: Served, doors: list[Door]) -> None:
    for door in doors:
        shift = door.shift()
        assert shift["schedule"] == json.loads(schedule(7, 100))
        assert shift["file"]["state"] == "Applied"
        assert [rank["generation"] for rank in shift["ranks"]] == [7, 7]


def test_a_changed_file_is_handed_over_once_and_told_by_each(served: Served, doors: list[Door]) -> None:
    """The process that watches logs it; two watchers would log it twice."""
    served.mount(schedule(8, 40))
    for door in doors:
        served.until("generation 8", lambda _, door=door: [r["generation"] for r in door.shift()["ranks"]] == [8, 8])
        assert door.shift()["file"]["generation"] == 8
    assert served.log.read_text().count("schedule applied generation=8") == 1
    served.mount("no JSON")
    for door in doors:
        served.until("a refusal", lambda _, door=door: door.shift()["file"]["state"] == "Invalid")
    assert served.log.read_text().count("schedule file invalid") == 1


def test_each_process_shows_the_same_counters_which_never_go_back(served: Served, doors: list[Door]) -> None:
    before = 0.0
    for turn in range(6):
        door = doors[turn % 2]
        door.complete()
        families = door.metrics()
        steps = sum(sample.value for sample in families["shift_steps"].samples)
        assert steps >= before
        before = steps
    served.until("all steps", lambda _: len({steps_of(door) for door in doors}) == 1 and steps_of(doors[0]) > 0)
    names = [{name for name in door.metrics() if name.startswith("shift_")} for door in doors]
    assert names[0] == names[1] >= {"shift_steps", "shift_batched_tokens", "shift_info"}


def test_vllms_own_metrics_count_the_requests_of_both(served: Served, doors: list[Door]) -> None:
    before = [requests_of(door) for door in doors]
    for door in doors:
        door.complete()
    served.until("both counted", lambda _: [requests_of(door) for door in doors] == [each + 2 for each in before])


def test_sigterm_leaves_each_process_the_time_to_answer_what_it_has_begun(served: Served, doors: list[Door]) -> None:
    """The engine is gone after it."""
    by_door = [replace(served, http=door.http) for door in doors]
    alone = by_door[0].stream("A ship.", 80)
    begun = [threading.Event() for _ in by_door]
    with ThreadPoolExecutor(len(by_door)) as pool:
        asked = zip(by_door, begun, strict=True)
        answers = [pool.submit(each.stream, "A ship.", 80, event) for each, event in asked]
        assert all(event.wait(CHANGE_SECONDS) for event in begun)
        served.process.send_signal(signal.SIGTERM)
        assert [answer.result() for answer in answers] == [alone, alone]
    assert served.process.wait(CHANGE_SECONDS) == 0
    assert not served.termination_log.exists()


@pytest.mark.full
def test_a_rank_that_dies_ends_the_engine_with_its_reason(
    model: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    """Started by a container's command."""
    with serving(None, model, environment, tmp_path, schedule(7, 100), *FLAGS) as engine:
        below = psutil.Process(engine.process.pid).children(recursive=True)
        next(process for process in below if "Worker_TP1" in process.cmdline()[0]).kill()
        assert engine.process.wait(CHANGE_SECONDS) == 1
        assert "died unexpectedly" in engine.termination_log.read_text()


def process_at_the_other_end(served: Served, client: httpx.Client) -> int:
    """The pid of the API process that accepted the client's connection."""
    [connection] = client._transport._pool.connections  # type: ignore[attr-defined]
    own = connection._connection._network_stream.get_extra_info("client_addr")  # type: ignore[attr-defined]
    for process in psutil.Process(served.process.pid).children(recursive=True):
        if any(each.raddr[:2] == own[:2] for each in process.net_connections("inet") if each.raddr):
            return process.pid
    raise AssertionError(f"no process has a connection from {own}")


def steps_of(door: Door) -> float:
    return sum(sample.value for sample in door.metrics()["shift_steps"].samples)


def requests_of(door: Door) -> float:
    return sum(s.value for s in door.metrics()["vllm:request_success"].samples if s.name.endswith("_total"))
