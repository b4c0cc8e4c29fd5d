"""Which program runs: KUBEBUILDER_ASSETS first, then the cache's, in a folder named by what it was built from."""

from __future__ import annotations

from pathlib import Path

import pytest
from localcluster.errors import BuildFailed, NotBuilt
from localcluster.progress import Silent

from localcluster import binaries, toolchain


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache and no ready binaries."""
    monkeypatch.setenv("SHIFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    return tmp_path / "cache"


def test_what_is_missing_is_named_with_the_way_out() -> None:
    _program(binaries.GROUPS[0].folder() / "etcd")
    with pytest.raises(NotBuilt, match=r"not built yet: kubectl, helm; run `localcluster build`"):
        binaries.find(["etcd", "kubectl", "helm"])


def test_kubebuilder_assets_come_first_and_the_rest_from_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assets = tmp_path / "assets"
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(assets))
    _program(assets / "etcd")
    folder = binaries.GROUPS[0].folder()
    _program(folder / "etcd")
    _program(folder / "kubectl")
    assert binaries.find(["etcd", "kubectl"]) == {"etcd": assets / "etcd", "kubectl": folder / "kubectl"}


def test_nothing_is_built_when_all_is_there(cache: Path) -> None:
    _program(binaries.GROUPS[1].folder() / "helm")
    assert set(binaries.build(["helm"], Silent())) == {"helm"}
    assert not (cache / "bin" / ".lock").exists()


def test_an_unfinished_build_is_not_found() -> None:
    folder = binaries.GROUPS[0].folder()
    _program(folder / ".etcd.unfinished")
    (folder / "kubectl").touch()  # no executable
    assert binaries.located() == {}


def test_another_flag_or_pin_is_another_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    before = binaries.GROUPS[0].folder()
    monkeypatch.setattr(binaries, "LINKER_FLAGS", "-s")
    assert binaries.GROUPS[0].folder() != before


def test_a_program_go_cannot_build_shows_gos_own_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a `go` that fails as the real one does."""
    go = tmp_path / "tools" / "go"
    _program(go, 'if [ "$1" = env ]; then echo go99.9; else echo "no required module provides package" >&2; exit 1; fi')
    monkeypatch.setenv("PATH", f"{go.parent}:/usr/bin:/bin")
    with pytest.raises(BuildFailed, match=r"(?s)promtool: .*exit code 1.*no required module provides package"):
        binaries.build(["promtool"], Silent())
    assert "promtool" not in binaries.located()


@pytest.mark.parametrize(
    ("go_mod", "wanted"), [("module x\n\ngo 1.26.0\n", (1, 26, 0)), ("go 1.27\ntoolchain go1.28.1\n", (1, 27))]
)
def test_the_version_asked_for_is_go_mods(go_mod: str, wanted: tuple[int, ...]) -> None:
    assert toolchain.wanted_version(go_mod) == wanted


def test_a_go_that_does_not_run_has_no_version(tmp_path: Path) -> None:
    assert toolchain.installed_version(tmp_path / "go") is None


def test_every_group_has_its_pinned_module() -> None:
    for group in binaries.GROUPS:
        module = (group.module / "go.mod").read_text()
        for package in group.packages.values():
            assert package in module


def _program(path: Path, script: str = "exit 0") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.mark.parametrize("name", ["kwok", "lws-controller"])
def test_what_no_cluster_needs_is_built_when_it_is_named(name: str) -> None:
    assert name not in binaries.ALL
    assert name in binaries.NAMES
    with pytest.raises(NotBuilt, match=f"not built yet: {name}; run `localcluster build {name}`"):
        binaries.find([name])
