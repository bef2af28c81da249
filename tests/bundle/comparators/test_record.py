"""The record-only comparison: against scikit-learn by hand, and as users run it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold

from scripts.comparators import record
from scripts.comparators.record import record_regression
from scripts.comparators.tables import read_table
from scripts.ehr.encoding import records
from scripts.ehr.features import EHR_FEATURES, FEATURES
from scripts.errors import UserError
from tests.bundle.helpers import CONFIGS


def by_hand(cases: list[dict[str, Any]], fitted: list[dict[str, Any]]) -> np.ndarray:
    """What a record is as numbers, written out with pandas."""
    frame, known = (pd.DataFrame([case["ehr"] for case in part])[list(EHR_FEATURES)] for part in (cases, fitted))
    columns = []
    for name in ("sct_long_dia", "sct_perp_dia", "age"):
        scale = np.log if name != "age" else np.asarray
        values, reference = (scale(part[name].to_numpy(dtype=float)) for part in (frame, known))
        median = np.nanmedian(reference)
        filled = np.where(np.isnan(reference), median, reference)
        columns.append((np.where(np.isnan(values), median, values) - filled.mean()) / filled.std())
        if np.isnan(reference).any():
            gaps = np.isnan(reference)
            columns.append((np.isnan(values) - gaps.mean()) / gaps.std())
    for name, feature in FEATURES.items():
        columns += [(frame[name] == code).to_numpy(dtype=float) for code in feature.codes]
        columns += [frame[name].isna().to_numpy(dtype=float)] if feature.codes else []
    return np.stack(columns, axis=1)


def test_regression_equals_scikit_learn_by_hand(cohort: Path, regression: GridSearchCV) -> None:
    """The chosen penalty by a loop over folds of patients, and the probabilities of cases never seen."""
    datalist = json.loads((cohort / "datalist.json").read_text())
    known = [case for case in datalist["training"] if case["malignant"] is not None]
    labels, patients = np.array([case["malignant"] for case in known]), [case["patient_id"] for case in known]
    strengths = record.STRENGTHS
    losses = np.zeros(len(strengths))
    for seen, unseen in StratifiedGroupKFold(5, shuffle=True, random_state=0).split(known, labels, patients):
        assert not {patients[i] for i in seen} & {patients[i] for i in unseen}
        fitted = [known[i] for i in seen]
        x, y = by_hand(fitted, fitted), by_hand([known[i] for i in unseen], fitted)
        for index, strength in enumerate(strengths):
            fit = LogisticRegression(C=strength, max_iter=1000).fit(x, labels[seen])
            losses[index] += log_loss(labels[unseen], fit.predict_proba(y)[:, 1], labels=[0, 1]) / 5
    best = strengths[losses.argmin()]
    assert regression.best_params_ == {"regression__C": best}
    assert -regression.best_score_ == pytest.approx(losses.min(), rel=1e-4)
    assert strengths[0] < best < strengths[-1]
    plain = LogisticRegression(C=best, max_iter=1000).fit(by_hand(known, known), labels)
    expected = plain.predict_proba(by_hand(datalist["test"], known))[:, 1]
    found = regression.predict_proba(records(datalist["test"]))[:, 1]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_penalties_are_chosen_among_thirteen(few_strengths: np.ndarray) -> None:
    """Two a decade; the tests choose among fewer."""
    np.testing.assert_allclose(few_strengths, np.logspace(-4, 2, 13))


def test_record_only_from_the_command_line(
    cohort: Path, regression: GridSearchCV, tmp_path: Path, monai: Callable[..., None]
) -> None:
    files = ("--config_file", CONFIGS / "record_only.yaml", "--dataset_dir", cohort, "--output_dir", tmp_path)
    monai("run", *files)
    table = pd.read_csv(tmp_path / "baselines" / "record_only.csv")
    assert list(table) == ["case_id", "run", "probability"] and list(table.case_id) == [f"c{i}" for i in range(80, 120)]
    cases = json.loads((cohort / "datalist.json").read_text())["test"]
    probabilities = read_table(tmp_path / "baselines" / "record_only.csv", [case["case_id"] for case in cases])
    expected = regression.predict_proba(records(cases))[:, 1]
    np.testing.assert_allclose(probabilities, expected[None], rtol=1e-5)


def test_too_few_patients_are_named(cohort: Path, tmp_path: Path) -> None:
    datalist = json.loads((cohort / "datalist.json").read_text())
    for case in datalist["training"]:
        case["malignant"] = int(case["patient_id"] == "p0")  # two cases, one patient
    (tmp_path / "datalist.json").write_text(json.dumps(datalist))
    with pytest.raises(UserError, match="fewer than two patients with a malignant"):
        record_regression(tmp_path)
