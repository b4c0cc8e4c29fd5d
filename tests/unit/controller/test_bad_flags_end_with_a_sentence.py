"""The operator's flags, and what a mistake in one says."""

from pathlib import Path

import pytest
from shift_operator.controller.settings import parse_settings


def test_without_any_flag_the_defaults_hold() -> None:
    settings = parse_settings([], environ={})
    assert (settings.host, settings.port, settings.decision_interval_seconds) == ("127.0.0.1", 8080, 15.0)
    assert settings.prometheus_url is None
    assert settings.watch_namespaces == ()


def test_the_environment_sets_a_flag_and_the_command_line_wins() -> None:
    environ = {"SHIFT_OPERATOR_PORT": "9000", "SHIFT_OPERATOR_WATCH_NAMESPACES": "team-a, team-b,team-a"}
    settings = parse_settings(["--port", "9001", "--prometheus-url", "https://prometheus:9090/"], environ=environ)
    assert settings.port == 9001
    assert settings.watch_namespaces == ("team-a", "team-b")
    assert settings.prometheus_url == "https://prometheus:9090"


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["--prometheus-url", "prometheus:9090"], "'prometheus:9090' is no http(s) URL; write it as http://"),
        (["--prometheus-url", "http://prometheus:port"], "'http://prometheus:port' is no http(s) URL"),
        (["--decision-interval-seconds", "soon"], "'soon' is no number of seconds between 0.1 and 86400"),
        (["--decision-interval-seconds", "0"], "'0' is no number of seconds"),
        (["--resync-seconds", "nan"], "'nan' is no number of seconds"),
        (["--port", "65536"], "'65536' is no port; write a number between 0 and 65535"),
        (["--host", "localhost"], "'localhost' is no IP address; in a pod write $(POD_IP)"),
        (["--workers", "0"], "'0' is no whole number between 1 and 256"),
        (["--watch-namespaces", "Team A"], "'Team A' is no namespace name; write them as team-a,team-b"),
        (["--lease", "shift-operator"], "'shift-operator' is no Lease; write it as $(POD_NAMESPACE)/shift-operator"),
        (["--lease-seconds", "2"], "'2' is no whole number of seconds between 3 and 600"),
        (["--instance", "team a"], "'team a' is no label value; write a name as team-a"),
        (["--log-level", "chatty"], "'chatty' is no log level; choose one of DEBUG, INFO, WARNING, ERROR"),
        (["--prometheus-token-file", "/nowhere/token"], "/nowhere/token cannot be read; mount it, or drop the flag"),
    ],
)
def test_a_bad_flag_ends_with_a_sentence(argv: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parse_settings(argv, environ={})
    assert end.value.code == 2
    assert f"argument {argv[0]}: {sentence}" in capsys.readouterr().err


def test_a_bad_variable_ends_with_the_same_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_settings([], environ={"SHIFT_OPERATOR_LOG_LEVEL": "chatty"})
    assert "argument --log-level: 'chatty' is no log level" in capsys.readouterr().err


def test_a_token_file_that_can_be_read_is_accepted(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret")
    assert parse_settings(["--prometheus-token-file", str(token)], environ={}).prometheus_token_file == token
