"""The command line: ours is checked before vLLM is loaded, and each refusal names flag and rule."""

from argparse import Namespace
from pathlib import Path

import pytest
from shift_engine import serve
from shift_engine.compat.plugins import allow_our_plugins
from shift_engine.config import ShiftConfig
from shift_engine.degree import Degree


def test_our_flags_are_taken_and_vllms_are_left() -> None:
    ours, theirs = serve.split_flags(
        ["serve", "m", "--shift-degree=2x2", "-tp", "4", "--shift-threshold", "64", "--seed", "1"]
    )
    assert theirs == ["m", "-tp", "4", "--seed", "1"]
    assert serve.shift_config(ours, 4) == ShiftConfig(degree="2x2", threshold=64)


def test_the_default_degree_is_pure_sequence_parallelism() -> None:
    ours, _ = serve.split_flags(["serve", "m"])
    assert serve.shift_config(ours, 4).large == Degree(4, 1)
    assert serve.shift_config(ours, 1).large == Degree(1, 1)
    assert serve.shift_config(ours, 4).threshold is None
    assert serve.shift_config(ours, 4).first_schedule.ranges[0].up_to_tokens == 512


def test_several_degrees_are_kept_in_their_order_and_once() -> None:
    ours, _ = serve.split_flags(["serve", "m", "--shift-degree", "2x2", "--shift-degree=4x1", "--shift-degree", "2x2"])
    config = serve.shift_config(ours, 4)
    assert config.started_with == (Degree(2, 2), Degree(4, 1))
    assert ShiftConfig.from_vllm(config.to_additional_config()) == config


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "the following arguments are required: command"),
        (["run", "m"], "invalid choice: 'run'"),
        (["serve", "m", "--shift-degree", "two"], 'argument --shift-degree: "two" is no degree; write SEQUENCExTENSOR'),
        (["serve", "m", "--shift-threshold", "-5"], "argument --shift-threshold"),
        (["serve", "m", "--shift-threshold", "many"], '"many" is no whole number of tokens'),
        (["serve", "m", "--shift-probe-share", "0.9"], '"0.9" is no share from 0 to 0.5'),
        (["serve", "m", "--shift-calibration", "maybe"], "argument --shift-calibration"),
        (["serve", "m", "--shift-graphs", "some"], "argument --shift-graphs"),
        (["serve", "m", "--shift-treshold", "5"], "--shift-treshold: no such flag"),
        (["serve", "m", "--shift-thr", "5"], "--shift-thr: no such flag"),
    ],
)
def test_a_wrong_flag_ends_with_code_2_and_a_sentence(
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SHIFT_TERMINATION_LOG", str(tmp_path / "end"))
    with pytest.raises(SystemExit) as ended:
        serve.main(arguments)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
    assert said in (tmp_path / "end").read_text()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"worker_cls": "a.B"}, "--worker-cls a.B: the shift engine brings its own worker"),
        ({"api_server_count": 0}, "--api-server-count 0: a replica has at least one API server"),
        ({"additional_config": {"shift_parallel": {}}}, "the key shift_parallel is the engine's own"),
        ({"tensor_parallel_size": 3}, "--shift-degree 2x1: sequence 2 x tensor 1 is 2, --tensor-parallel-size is 3"),
    ],
)
def test_vllm_flags_that_are_ours_to_set(flags: dict[str, object], said: str) -> None:
    ours, _ = serve.split_flags(["serve", "m", "--shift-degree", "2x1"])
    stock = {"worker_cls": "auto", "api_server_count": None, "additional_config": {}, "tensor_parallel_size": 2}
    with pytest.raises(serve.FlagError, match=said):
        serve.install(Namespace(**stock | flags), ours)


def test_our_settings_join_the_users_additional_config() -> None:
    ours, _ = serve.split_flags(["serve", "m"])
    flags = Namespace(worker_cls="auto", api_server_count=1, additional_config={"their": 1}, tensor_parallel_size=2)
    serve.install(flags, ours)
    assert flags.additional_config["their"] == 1
    assert ShiftConfig.from_vllm(flags.additional_config).degree == "2x1"
    assert flags.worker_cls == "shift_engine.worker.ShiftWorker"


def test_the_plugins_that_were_loaded_stay_loaded() -> None:
    environment: dict[str, str] = {}
    allow_our_plugins(environment)
    assert {"shift_engine", "lora_filesystem_resolver"} <= set(environment["VLLM_PLUGINS"].split(","))
    chosen = {"VLLM_PLUGINS": "mine"}
    allow_our_plugins(chosen)
    assert chosen["VLLM_PLUGINS"] == "mine,shift_engine"


def test_a_worker_without_settings_says_how_to_give_them() -> None:
    with pytest.raises(LookupError, match="start the engine by `shift-engine serve`"):
        ShiftConfig.from_vllm({})
