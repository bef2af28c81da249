"""What is said of training cases: percentiles of many only, common codes, and the spread of latents."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf

from scripts.data.transforms import baseline_crops
from scripts.results.training import describe_latents, describe_training, interpolated
from tests.bundle.results.conftest import SIZE


def test_percentiles_are_of_a_hundred_cases_at_least() -> None:
    values = np.random.default_rng(0).normal(size=100)
    found = interpolated(values, (1, 99))
    assert found == pytest.approx(np.percentile(values, (1, 99), method="hazen"), rel=1e-3)
    assert not set(found or ()) & set(values)
    values[3] = np.nan
    assert interpolated(values, (1, 99)) is None


def test_training_section(cohort: Path) -> None:
    found = describe_training(cohort, baseline_crops(cohort, "training", SIZE))
    cases = json.loads((cohort / "datalist.json").read_text())["training"]
    ages = [case["ehr"]["age"] for case in cases]
    assert found["n"] == 120 and min(ages) < found["percentiles"]["age"][0] < found["percentiles"]["age"][1] < max(ages)
    assert found["percentiles"]["pixel_mm"] == [1.0, 1.0] and found["percentiles"]["hu_5"][1] < -800
    assert found["percentiles"]["interval_days"] == pytest.approx([350, 379], abs=1)
    assert found["codes"] == {"sct_pre_att": [1], "sct_margins": [1, 2, 3], "gender": [1, 2]}


def test_of_few_cases_nothing_is_said(cohort: Path, tmp_path: Path) -> None:
    datalist = json.loads((cohort / "datalist.json").read_text())
    datalist["training"] = datalist["training"][:99]
    shutil.copytree(cohort, tmp_path, dirs_exist_ok=True)
    (tmp_path / "datalist.json").write_text(json.dumps(datalist))
    crops = baseline_crops(tmp_path, "training", SIZE)
    assert describe_training(tmp_path, crops) == {"n": 99, "percentiles": {}, "codes": {}}
    assert describe_latents(np.zeros((99, 2)), [str(index) for index in range(99)]) is None


def test_the_limit_is_that_of_cases_that_were_not_fitted() -> None:
    noise = np.random.default_rng(0)
    scales, patients = np.geomspace(0.1, 10, 30), [str(index // 2) for index in range(200)]
    latents = noise.normal(size=(200, 30)) * scales
    described = describe_latents(latents, patients)
    assert described is not None
    facts, tensors = described
    fitted = LedoitWolf().fit(latents)
    np.testing.assert_allclose(tensors["covariance"], fitted.covariance_)
    new = np.sqrt(LedoitWolf().fit(latents).mahalanobis(noise.normal(size=(20000, 30)) * scales))
    assert facts["distance_99"] == pytest.approx(np.percentile(new, 99), rel=0.08)
    assert facts["distance_99"] > np.percentile(np.sqrt(fitted.mahalanobis(latents)), 99) * 1.03
