"""Writing results: all cases in the table, nothing made again, made again where something changed, flags added."""

from __future__ import annotations

import csv
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scripts.data.datalist import inference_items
from scripts.files import write_json
from scripts.results import case as case_module
from scripts.results.case import Results
from scripts.results.write import add_flags, write_results
from tests.bundle.results.conftest import SIZE, Predict


@pytest.fixture
def items(cohort: Path) -> list[dict[str, Any]]:
    return inference_items(cohort, "test", image_size=SIZE)


@pytest.fixture
def made_by(written: Path) -> dict[str, Any]:
    made = json.loads((written / "c160" / "provenance.json").read_text())
    return {name: value for name, value in made.items() if name != "case_sha256"}


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    return shutil.copytree(written, tmp_path / "predictions")


def state(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


def rows(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "results.csv").open(encoding="utf-8")))


def test_all_cases_have_a_row_and_nothing_is_made_again(
    folder: Path, items: list[dict[str, Any]], made_by: dict[str, Any], published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [row["case_id"] for row in rows(folder)] == ["c160", "c161"]
    before = state(folder)
    monkeypatch.setattr(case_module, "load_network", lambda *_: pytest.fail("opened a network in vain"))
    monkeypatch.setattr(case_module, "Readers", lambda *_: pytest.fail("opened a network in vain"))
    write_results(folder, items, Results(published, made_by))
    assert state(folder) == before


@pytest.mark.parametrize("changed", ["record", "interval", "weights", "reference", "prediction", "table", "absent"])
def test_what_changed_is_made_again(
    changed: str, folder: Path, items: list[dict[str, Any]], made_by: dict[str, Any], published: Path, tmp_path: Path
) -> None:
    models = shutil.copytree(published, tmp_path / "models")
    before = state(folder)
    again = {"c160", "c161"}
    if changed in ("record", "interval"):
        own = {"record": {"ehr": items[0]["ehr"] | {"age": 70.01}}, "interval": {"interval_days": 500}}[changed]
        items[0], again = items[0] | own, {"c160"}
    elif changed == "weights":
        regression = json.loads((models / "record_only.json").read_text())
        write_json(models / "record_only.json", regression | {"intercept": regression["intercept"] + 1})
    elif changed == "reference":
        (models / "reference.json").unlink()
    elif changed == "prediction":
        provenance = json.loads((folder / "c161" / "provenance.json").read_text())
        write_json(folder / "c161" / "provenance.json", provenance | {"seed": 99})
        again = {"c161"}
    elif changed == "table":
        (folder / "results.csv").unlink()
        again = set()
    else:
        (folder / "c160" / "result.json").unlink()
        again = {"c160"}
    write_results(folder, items, Results(models, made_by))
    after = state(folder)
    touched = {Path(path).parent.name for path in after if after[path] != before.get(path) and "result.json" in path}
    assert touched == again
    assert [row["case_id"] for row in rows(folder)] == ["c160", "c161"]


def test_older_weights_have_results_that_say_what_they_lack(
    folder: Path, items: list[dict[str, Any]], trained: Path, predict: Predict, caplog: pytest.LogCaptureFixture
) -> None:
    made_by = predict(trained / "models", folder, items)
    with caplog.at_level(logging.WARNING):
        write_results(folder, items, Results(trained / "models", made_by))
    (record,) = [each for each in caplog.records if each.name == "scripts.results.case"]
    result = json.loads((folder / "c160" / "result.json").read_text())
    assert result["best_method"] is None and result["methods"][0].get("probability") is None
    for lacking in ("reference.json: no calibration", "no record_only.json", "no direct_classifier.safetensors"):
        assert lacking in record.message and any(lacking in each for each in result["lacking"])
    computed = [each["method"] for each in result["methods"] if "uncalibrated" in each]
    assert computed == ["generated", "baseline"]


def test_a_single_case_has_its_line(
    folder: Path,
    items: list[dict[str, Any]],
    made_by: dict[str, Any],
    published: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO):
        write_results(folder, items, Results(published, made_by))
        assert not caplog.records
        write_results(folder, items[1:], Results(published, made_by), pages=True)
    assert caplog.records[-1].message.startswith("Malignant: ") and len(rows(folder)) == 1
    assert (folder / "c161" / "result.pdf").read_bytes()[:4] == b"%PDF" and not (
        folder / "c160" / "result.pdf"
    ).exists()


def test_flags_are_added_once_and_stay(
    folder: Path, items: list[dict[str, Any]], made_by: dict[str, Any], published: Path
) -> None:
    (folder / "c161" / "result.pdf").write_text("a page without the flag")
    for _ in range(2):
        add_flags(folder / "c161", ["Age differs from DICOM's.", "The point is outside the lung."])
    write_results(folder, items, Results(published, made_by))
    result = json.loads((folder / "c161" / "result.json").read_text())
    assert result["flags"][-2:] == ["Age differs from DICOM's.", "The point is outside the lung."]
    assert result["flags"].count("Age differs from DICOM's.") == 1
    assert rows(folder)[1]["flags"].endswith("Age differs from DICOM's. The point is outside the lung.")
    assert "DICOM" not in rows(folder)[0]["flags"] and not (folder / "c161" / "result.pdf").exists()
    assert np.isfinite(float(rows(folder)[1]["record_only_uncalibrated"]))
