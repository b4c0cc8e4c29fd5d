"""The CRDs, the chart's copies and the reference pages are what the types generate, and `--check` notices when not."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from shift_operator.api import crd, reference

REPOSITORY = Path(__file__).parents[3]


def test_the_repositorys_files_are_as_generated(capsys: pytest.CaptureFixture[str]) -> None:
    assert crd.main(["--check", "--root", str(REPOSITORY)]) == 0
    assert reference.main(["--check", "--root", str(REPOSITORY)]) == 0
    assert capsys.readouterr().out == ""


def test_check_fails_with_a_diff_where_a_file_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert crd.main(["--root", str(tmp_path)]) == 0
    file = tmp_path / crd.SHIFT_DEPLOYMENT.crd_file
    file.write_text(file.read_text().replace("shortNames", "shortName"))
    assert crd.main(["--check", "--root", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert "-    shortName:" in said
    assert f"{crd.SHIFT_DEPLOYMENT.crd_file} is not as generated; run `make generate`" in said


def test_check_fails_where_a_file_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert reference.main(["--check", "--root", str(tmp_path)]) == 1
    assert "is not as generated" in capsys.readouterr().out


def test_print_shows_the_first_crd(capsys: pytest.CaptureFixture[str]) -> None:
    assert crd.main(["--print"]) == 0
    assert yaml.safe_load(capsys.readouterr().out) == crd.SHIFT_DEPLOYMENT.definition()


def test_the_reference_has_every_rule_and_field() -> None:
    page = reference.page(crd.SHIFT_DEPLOYMENT)
    assert "#### spec.shift.thresholdTokens\n\ninteger, from 1 to 131072, default `512`" in page
    assert "- Rule: shift.thresholdTokens … is outside shift.thresholdRange ……; write a number" not in page
    assert (
        "- Rule: shift.thresholdTokens … is outside shift.thresholdRange …..…; write a number within the range" in page
    )
    assert "### status.conditions" in page


@pytest.mark.parametrize("kind", crd.KINDS, ids=lambda kind: kind.short_name)
def test_each_kind_has_its_files_and_its_page(kind: crd.Kind) -> None:
    assert {kind.crd_file, kind.chart_file} <= crd.files().keys()
    page = reference.files()[f"docs/reference/{kind.kind.lower()}.md"]
    assert f"short name `{kind.short_name}`" in page
    assert ("## status" in page) == kind.has_status
    assert ("it has no namespace" in page) != kind.namespaced


def test_the_plurals_are_english() -> None:
    assert [kind.plural for kind in crd.KINDS] == ["shiftdeployments", "clustershiftpolicies", "shiftprofiles"]
