"""Guidance for size: chosen by the CRPS on validation, published, and growth in results measured from its images."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scripts.data.datalist import inference_items
from scripts.evaluation.nodules.forecasts import Section
from scripts.evaluation.nodules.growth import measure
from scripts.evaluation.sections import open_section
from scripts.files import write_json
from scripts.predictions import PredictionError, read_predictions
from scripts.results import publish
from scripts.results.case import Results
from scripts.results.publish import publish_reference
from scripts.results.reference import REFERENCE, PublishedReferenceError
from scripts.results.size import choose_size_guidance, size_guidance
from scripts.results.sources import ON_HELD_OUT
from scripts.results.write import write_results
from tests.bundle.results.conftest import SIZE, Predict


def test_the_guidance_of_the_least_crps_is_chosen(cohort: Path) -> None:
    study = open_section(cohort, "validation", SIZE)
    near, far = (np.stack([study.follow_up, study.baseline, last]) for last in (study.follow_up, study.baseline))
    growth = Section(study, {"6": far, "1.5": near, "1": far[:1]}).measured()
    found = choose_size_guidance(growth, ["6", "1.5"], "validation")
    truth = growth.measured["real_follow_up"].long[0]
    for scale in ("6", "1.5"):
        runs = growth.measured[scale].long
        pairs = np.abs(runs[:, None] - runs[None]).sum(axis=(0, 1)) / (2 * 3 * 2)
        assert found["crps_mm"][scale] == pytest.approx((np.abs(runs - truth).mean(axis=0) - pairs).mean(), rel=1e-3)
    assert found["guidance_scale"] == 1.5 and found["n"] == 40 and found["growth"]["error_mm"] == 0
    assert found["growth"]["on"] == (
        "validation; of 2 guidance scales chosen on these nodules, so that its figures are optimistic"
    )
    with pytest.raises(PublishedReferenceError, match="guidance 1: there is one run a case, expected 2"):
        choose_size_guidance(growth, ["6", "1"], "")
    growth.measurable[:] = False
    nothing = {"guidance_scale": 6, "crps_mm": {}, "n": 0, "growth": None}
    assert choose_size_guidance(growth, ["6", "1.5"], "") == nothing


def test_it_is_published_with_the_weights_and_read_again(
    cohort: Path, published: Path, tmp_path: Path, predict: Predict, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Folders of one guidance scale are refused, and weights for which none was published."""
    with pytest.raises(PublishedReferenceError, match="no guidance scale for size. Publish one"):
        size_guidance(published)
    models, other = shutil.copytree(published, tmp_path / "models"), tmp_path / "other"
    predict(models, other, inference_items(cohort, "validation", image_size=SIZE))
    arguments: Any = (cohort, models, published.parent / "predictions", tmp_path / "none")
    with pytest.raises(PublishedReferenceError, match="other: generated at guidance scale 6, as .*predictions"):
        publish_reference(*arguments, size_predictions=[other])
    for path in other.glob("*/provenance.json"):
        write_json(path, json.loads(path.read_text()) | {"guidance_scale": 1.0, "num_steps": 50})
    monkeypatch.setattr(publish, "out_of_fold", lambda cases, folds: None)
    publish_reference(*arguments, resamples=20, folds=3, size_predictions=[other])
    found = json.loads((models / REFERENCE).read_text())["size"]
    assert found["sampling"] == {
        scale: {"solver": "dpmpp", "num_steps": steps} for scale, steps in (("6", 12), ("1", 50))
    }
    assert found["crps_mm"].keys() == {"6", "1"} and size_guidance(models) == found["guidance_scale"] == 6.0
    content = json.loads((models / REFERENCE).read_text())
    assert content["growth"]["on"] == ON_HELD_OUT and found["growth"]["on"].startswith(f"{ON_HELD_OUT}; of 2 guidance")
    content["made_from"]["weights"]["autoencoder"] = "0"
    write_json(models / REFERENCE, content)
    with pytest.raises(PublishedReferenceError, match="size is of other weights .autoencoder."):
        size_guidance(models)


def test_growth_is_measured_from_the_images_for_size(
    cohort: Path, published: Path, written: Path, predict: Predict, tmp_path: Path
) -> None:
    """And from no others than of the same cases; the outcome is read from the others as before."""
    items = inference_items(cohort, "test", image_size=SIZE)
    folder, sizes = shutil.copytree(written, tmp_path / "predictions"), tmp_path / "size"
    made_by = predict(published, sizes, items)
    path = sizes / "c160" / "provenance.json"
    before = json.loads((folder / "c160" / "result.json").read_text())
    assert before["growth"]["guidance_scale"] == 6.0 and before["growth"]["held_out"]["n"] == 40
    for name in ("c160", "c161"):
        made = json.loads((sizes / name / "provenance.json").read_text())
        write_json(sizes / name / "provenance.json", made | {"guidance_scale": 1.0})
        shutil.copy(folder / "c161" / "samples.nii.gz", sizes / name / "samples.nii.gz")
    samples = read_predictions(sizes, ["c160"])
    models = shutil.copytree(published, tmp_path / "models")
    content = json.loads((models / REFERENCE).read_text())
    write_json(models / REFERENCE, content | {"size": {"guidance_scale": 1.0, "growth": {"error_mm": 0.5, "n": 40}}})
    write_results(folder, items, Results(models, made_by), size_dir=sizes)
    after = json.loads((folder / "c160" / "result.json").read_text())
    assert after["growth"]["guidance_scale"] == 1.0 and after["growth"]["held_out"] == {"error_mm": 0.5, "n": 40}
    change = np.median(measure(samples, np.ones((1, 2))).long) - after["growth"]["baseline_mm"]["long"]
    assert after["growth"]["change_mm"]["long"]["median"] == pytest.approx(change, abs=1e-3)
    assert after["methods"] == before["methods"]
    write_json(path, json.loads(path.read_text()) | {"case_sha256": "0" * 64})
    with pytest.raises(PredictionError, match="c160 was not made as in .*case_sha256"):
        write_results(folder, items, Results(models, made_by), size_dir=sizes)
    path.unlink()
    with pytest.raises(PredictionError, match="no follow-ups of c160. Run inference there first"):
        write_results(folder, items, Results(models, made_by), size_dir=sizes)
