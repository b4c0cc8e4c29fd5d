"""A replica over two nodes, here two containers of one rank each: one serves, the other runs a rank for it.

Their ranks find each other by an address, as on two machines. What one machine cannot show is NCCL between two.
"""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from scenarios import token_prompts
from served import CHANGE_SECONDS, EAGER, POD_IP, Process, Served, begin, free_port, schedule, serve, serving
from test_serving_with_a_schedule_file import both_degrees_ran
from warm import WarmVllm, end_group

Run = Callable[[str], dict[str, Any]]


@dataclass
class Replica:
    """`first` serves; `second` is the other node's container, which leaves its last words in `message`."""

    first: Served
    second: Process
    message: Path


@contextlib.contextmanager
def over_two_nodes(
    warm: WarmVllm | None, model: Path, environment: dict[str, str], directory: Path, text: str
) -> Iterator[Replica]:
    port, master = free_port(), free_port()
    flags = ["--nnodes", "2", "--master-addr", POD_IP, "--master-port", str(master), "--shift-calibration", "off"]
    environment, message = environment | {"VLLM_HOST_IP": POD_IP}, directory / "second-termination-log"
    command = [*serve(model, port, "2x1"), *flags, "--node-rank", "1", "--headless"]
    second = begin(warm, command, environment | EAGER, directory / "second.log", message)
    try:
        first = (*flags, "--node-rank", "0", "--shutdown-timeout", str(CHANGE_SECONDS))
        with serving(warm, model, environment, directory, text, *first, port=port) as served:
            yield Replica(served, second, message)
    finally:
        end_group(second)


def tokens(engine: Served, prompt: list[int]) -> list[int]:
    """Of a greedy answer, as many as stock vLLM was asked for."""
    asked = {"model": "chat", "prompt": prompt, "max_tokens": 12, "temperature": 0, "ignore_eos": True}
    answer = engine.http.post("/v1/completions", json=asked | {"return_token_ids": True})
    assert answer.status_code == 200, answer.text
    return list(answer.json()["choices"][0]["token_ids"])


def test_two_nodes_answer_as_one_under_every_schedule_and_end_together(
    run: Run, warm: WarmVllm, model: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    stock = run("stock TP=2")["stock"]["tokens"]
    with over_two_nodes(warm, model, environment, tmp_path, schedule(7, 100)) as replica:
        engine = replica.first
        shift = engine.shift()
        assert [(rank["rank"], rank["generation"]) for rank in shift["ranks"]] == [(0, 7), (1, 7)]
        assert [each["state"] for each in shift["degrees"]] == ["Loaded", "Loaded"]
        for generation, bounds in ((8, ()), (9, (1,)), (10, (40,)), (11, (400,))):
            engine.mount(schedule(generation, *bounds))
            shift = engine.until(f"{generation}", lambda s, g=generation: s["schedule"]["generation"] == g)
            assert [rank["generation"] for rank in shift["ranks"]] == [generation] * 2
            assert len({rank["step"] for rank in shift["ranks"]}) == 1
            assert [tokens(engine, prompt) for prompt in token_prompts()] == stock[:-1]  # the last is the first again
        engine.until("both degrees counted", lambda _: both_degrees_ran(engine.metrics()))

        # Both nodes' containers are told to end, this one first: what the replica has begun is answered whole.
        alone = engine.stream("A ship.", 60)
        with ThreadPoolExecutor(1) as pool:
            begun = threading.Event()
            answer = pool.submit(engine.stream, "A ship.", 60, begun)
            assert begun.wait(CHANGE_SECONDS)
            replica.second.send_signal(signal.SIGTERM)
            engine.process.send_signal(signal.SIGTERM)
            assert answer.result() == alone
        engine.http.close()
        assert engine.process.wait(CHANGE_SECONDS) == 0
        assert replica.second.wait(CHANGE_SECONDS) == 0


@pytest.mark.full
def test_a_rank_that_dies_ends_its_node_with_its_reason(
    model: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    """Started by the commands of two containers."""
    with over_two_nodes(None, model, environment, tmp_path, schedule(7, 100)) as replica:
        below = psutil.Process(replica.second.pid).children(recursive=True)
        next(process for process in below if "Worker" in process.cmdline()[0]).kill()
        assert replica.second.wait(CHANGE_SECONDS) == 1
        assert "died unexpectedly" in replica.message.read_text()
