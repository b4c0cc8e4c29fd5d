"""The engine as its container runs it: `shift-engine serve`, GET /shift, the metrics, a schedule file that changes."""

import json
import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families
from served import CHANGE_SECONDS, Served, schedule, serving
from warm import WarmVllm

CHECKOUT = Path(__file__).parents[3]
CACHE = Path(os.environ.get("SHIFT_CACHE", Path.home() / ".cache" / "shift-operator"))


@pytest.fixture(scope="module")
def served(model: Path, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """An engine that started with generation 7 in its schedule file, by the very command of a container."""
    with serving(None, model, environment, tmp_path_factory.mktemp("served"), schedule(7, 100)) as engine:
        yield engine


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
    assert shift["maxSequences"] == 96
    assert shift["overlay"] == {"active": True, "reason": None}
    assert [(each["sequence"], each["upToTokens"]) for each in shift["graphs"]] == [(1, 0), (2, 0)]  # none on a CPU
    assert shift["calibration"]["state"] == "Done"
    assert shift["calibration"]["tookSeconds"] > 0
    assert [(each["sequence"], each["state"]) for each in shift["degrees"]] == [(1, "Loaded"), (2, "Loaded")]


def test_the_metrics_that_the_operator_reads_are_served_under_these_names_and_labels(served: Served) -> None:
    """The operator's tests run on a record of an engine's metrics; this holds the record against the engine."""
    record = (CHECKOUT / "tests" / "integration" / "prometheus" / "engine_idle.txt").read_text()
    recorded = labels_by_name(text_string_to_metric_families(record))
    now = labels_by_name(served.metrics().values())
    assert {name: now.get(name) for name in recorded} == recorded
    [info] = served.metrics()["vllm:cache_config_info"].samples
    assert int(info.labels["kv_cache_size_tokens"]) == served.shift()["kvCacheTokens"] > 0
    assert edges_by_name(served.metrics().values()) == edges_by_name(text_string_to_metric_families(record))
    reasons = {sample.labels["finished_reason"] for sample in served.metrics()["vllm:request_success"].samples}
    assert reasons >= {"stop", "length", "abort"}, "counted from the start, so that idle is 0 and not absent"


def edges_by_name(families: Iterable[Any]) -> dict[str, set[str]]:
    """The bucket edges that a limit of an SLO may be counted at, as they are written."""
    names = ("vllm:time_to_first_token_seconds", "vllm:request_time_per_output_token_seconds")
    return {f.name: {s.labels["le"] for s in f.samples if "le" in s.labels} for f in families if f.name in names}


def labels_by_name(families: Iterable[Any]) -> dict[str, set[str]]:
    """The labels of each series, by its name. The record has a vLLM's whole configuration as labels; two count."""
    found: dict[str, set[str]] = {}
    for family in families:
        for sample in family.samples:
            labels = set(sample.labels)
            if sample.name == "vllm:cache_config_info":
                labels &= {"kv_cache_size_tokens", "num_gpu_blocks", "block_size"}
            found[sample.name] = found.get(sample.name, set()) | labels
    return found


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


def test_promtool_finds_nothing_to_say_about_the_metrics(served: Served) -> None:
    """Ours alone: vLLM's names have colons, which promtool keeps for recording rules."""
    [promtool, *_] = CACHE.glob("bin/prometheus-*/promtool")  # `make binaries` builds it
    text = served.http.get("/metrics", headers={"accept": "text/plain"}).text
    ours = [
        line for line in text.splitlines() if line.removeprefix("# HELP ").removeprefix("# TYPE ").startswith("shift_")
    ]
    check = subprocess.run(
        [promtool, "check", "metrics"], input="\n".join(ours) + "\n", capture_output=True, text=True, timeout=60
    )
    assert (check.returncode, check.stdout, check.stderr) == (0, "", "")


def test_a_changed_configmap_reaches_every_rank(served: Served) -> None:
    served.mount(schedule(8, 40))
    shift = served.until("generation 8", lambda s: s["file"]["state"] == "Applied" and s["schedule"]["generation"] == 8)
    assert shift["file"]["generation"] == 8
    assert [rank["generation"] for rank in shift["ranks"]] == [8, 8]
    assert len({rank["step"] for rank in shift["ranks"]}) == 1
    assert value(served.metrics()["shift_threshold_tokens"]) == 40


def test_a_broken_file_changes_nothing_and_is_said(served: Served) -> None:
    served.mount('{"generation": 9, "ranges": [')
    shift = served.until("a syntax fault", lambda s: s["file"]["state"] == "Invalid")
    assert "the file is no JSON" in shift["file"]["error"]
    assert shift["schedule"] == json.loads(schedule(8, 40))
    refused_files = {
        "Degree": (json.dumps({"generation": 9, "ranges": [{"sequence": 4, "tensor": 1}]}), "degree 4x1 takes 4 GPUs"),
        "Ranges": (schedule(9, 512), "ranges[0].upToTokens: 512 is not below max_num_batched_tokens 512"),
        "Generation": (schedule(7, 60), "generation: 7 is older than 8, which runs"),
    }
    for reason, (text, said) in refused_files.items():
        served.mount(text)
        file = served.until(reason, lambda s, reason=reason: s["file"]["reason"] == reason)["file"]
        assert said in file["error"]
        assert f"reason={reason} error={file['error']}" in served.log.read_text()
    assert served.shift()["schedule"] == json.loads(schedule(8, 40))
    families = served.metrics()
    refused = {s.labels["reason"]: s.value for s in families["shift_schedule_errors"].samples}
    assert refused == {"Syntax": 1, **dict.fromkeys(refused_files, 1)}  # once each, not at every look
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
    served.mount(schedule(100))
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


def loaded(families: dict[str, Any]) -> dict[str, float]:
    return {sample.labels["sequence"]: sample.value for sample in families["shift_degree_loaded"].samples}


def steps_at(families: dict[str, Any], sequence: str) -> float:
    return sum(s.value for s in families["shift_steps"].samples if s.labels["sequence"] == sequence)


def both_degrees_ran(families: dict[str, Any]) -> bool:
    steps = {(s.labels["sequence"], s.labels["tensor"]): s.value for s in families["shift_steps"].samples}
    tokens = {s.labels["sequence"]: s.value for s in families["shift_batched_tokens"].samples if s.name.endswith("sum")}
    return steps[("1", "2")] > 0 and steps[("2", "1")] > 0 and tokens["2"] > 100


def test_a_file_may_come_later_and_have_a_degree_built_and_a_rank_that_dies_ends_the_engine_with_its_reason(
    warm: WarmVllm, model: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    """The engine starts as stock vLLM; eight streams are open when the schedule names 2x1."""
    with serving(warm, model, environment, tmp_path, None, degree="1x2") as engine:
        shift = engine.shift()
        assert shift["file"]["state"] == "Missing"
        assert shift["schedule"] == json.loads(schedule(0))
        assert shift["degrees"][1] == {"sequence": 2, "tensor": 1, "state": "Buildable", "reason": None}
        assert shift["overlay"]["active"] is False
        assert loaded(engine.metrics()) == {"1": 1, "2": 0}
        alone = engine.stream("Small steps want the weights split. ", 200)
        with ThreadPoolExecutor(8) as pool:
            first = [threading.Event() for _ in range(8)]
            open_streams = [
                pool.submit(engine.stream, "Small steps want the weights split. ", 200, each) for each in first
            ]
            for each in first:
                assert each.wait(CHANGE_SECONDS * 3)
            engine.mount(json.dumps({"generation": 1, "ranges": [{"sequence": 2, "tensor": 1}]}))
            shift = engine.until("2x1 built", lambda s: s["file"]["state"] == "Applied", CHANGE_SECONDS * 3)
            assert [rank["generation"] for rank in shift["ranks"]] == [1, 1]
            assert {stream.result() for stream in open_streams} == {alone}
        assert [each["state"] for each in shift["degrees"]] == ["Loaded", "Loaded"]
        assert shift["overlay"] == {"active": True, "reason": None}
        assert len(shift["calibration"]["curves"]) == 2
        assert loaded(engine.metrics()) == {"1": 1, "2": 1}
        assert engine.stream("Small steps want the weights split. ", 200) == alone
        engine.until("steps at 2x1 counted", lambda _: steps_at(engine.metrics(), "2") > 0)
        assert engine.shift()["file"]["error"] is None
        ranks = [
            p for p in psutil.Process(engine.process.pid).children(recursive=True) if "Worker_TP1" in p.cmdline()[0]
        ]
        ranks[0].kill()
        assert engine.process.wait(60) == 1
        assert "died unexpectedly" in engine.termination_log.read_text()
