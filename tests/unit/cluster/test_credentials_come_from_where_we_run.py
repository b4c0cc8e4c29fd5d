"""KUBECONFIG wins, then a pod's ServiceAccount; a token file is read again."""

from pathlib import Path

import pytest
import yaml
from shift_operator.cluster import credentials
from shift_operator.cluster.credentials import NoCredentials, load_credentials


def a_kubeconfig(directory: Path, user: dict[str, str]) -> dict[str, str]:
    """The environment that points to a kubeconfig with this user."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "other", "user": {"token": "wrong"}}, {"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    (directory / "kubeconfig").write_text(yaml.safe_dump(config))
    return {"KUBECONFIG": str(directory / "kubeconfig")}


async def test_a_token_file_is_found_beside_its_kubeconfig_and_read_again(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("first\n")
    found = await load_credentials(a_kubeconfig(tmp_path, {"tokenFile": "token"}))
    assert (found.server, found.token()) == ("http://127.0.0.1:1", "first")
    (tmp_path / "token").write_text("second\n")
    assert found.token() == "first", "a minute may pass"
    assert found.token(fresh=True) == "second"


async def test_a_token_file_that_is_being_replaced_leaves_the_last_token(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("first")
    found = await load_credentials(a_kubeconfig(tmp_path, {"tokenFile": "token"}))
    assert found.token() == "first"
    (tmp_path / "token").unlink()
    assert found.token(fresh=True) == "first"


async def test_a_token_in_the_kubeconfig_is_taken_as_it_is(tmp_path: Path) -> None:
    found = await load_credentials(a_kubeconfig(tmp_path, {"token": "static"}))
    assert found.token() == "static"


async def test_a_pod_uses_its_service_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "SERVICE_ACCOUNT", tmp_path)
    (tmp_path / "token").write_text("mounted")
    (tmp_path / "ca.crt").write_text("a CA")
    found = await load_credentials({"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "6443"})
    assert (found.server, found.token()) == ("https://[fd00::1]:6443", "mounted")
    assert found.configuration.ssl_ca_cert == str(tmp_path / "ca.crt")


async def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "SERVICE_ACCOUNT", tmp_path)
    with pytest.raises(NoCredentials, match="token does not exist; the pod needs automountServiceAccountToken: true"):
        await load_credentials({"KUBERNETES_SERVICE_HOST": "10.0.0.1"})
    with pytest.raises(NoCredentials, match="set KUBECONFIG to a readable kubeconfig"):
        await load_credentials({"KUBECONFIG": str(tmp_path / "nowhere")})
