"""The regression as numbers: equal to scikit-learn's, through a JSON file too."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV

from scripts.comparators.regression import RecordRegression
from scripts.ehr.encoding import records
from scripts.ehr.features import EHR_FEATURES, FEATURES
from scripts.errors import UserError


def any_records(count: int) -> np.ndarray:
    """Records with every code and many gaps; the first one is empty."""
    noise = np.random.default_rng(3)
    values = np.full((count, len(EHR_FEATURES)), np.nan)
    for column, feature in enumerate(FEATURES.values()):
        drawn = noise.choice(list(feature.codes), count) if feature.codes else noise.uniform(20, 90, count)
        values[1:, column] = np.where(noise.random(count) < 0.3, np.nan, drawn)[1:]
    return values


def test_it_equals_scikit_learn(cohort: Path, regression: GridSearchCV, tmp_path: Path) -> None:
    cases = json.loads((cohort / "datalist.json").read_text())["test"]
    RecordRegression.of(regression).write(tmp_path / "record_only.json", dataset="made up")
    read = RecordRegression.read(tmp_path / "record_only.json")
    assert read == RecordRegression.of(regression)
    for known in (records(cases), any_records(500)):
        numbers = regression.best_estimator_["record"].transform(known)
        np.testing.assert_allclose(read.numbers(known), numbers, rtol=0, atol=1e-9)
        np.testing.assert_allclose(read.probability(known), regression.predict_proba(known)[:, 1], rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    "content",
    ["{}", '{"columns": [{"feature": "height", "is": 1}], "intercept": 0}', '{"columns": [], "intercept": 1}'],
)
def test_other_files_are_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "record_only.json").write_text(content)
    with pytest.raises(UserError, match=r"record_only.json: no regression on the record .*Publish it again"):
        RecordRegression.read(tmp_path / "record_only.json")
