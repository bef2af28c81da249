"""Subgroups: every case is in one of each division, and scores are those of the cases alone."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from scripts.evaluation.statistics.metrics import patient_resamples
from scripts.evaluation.statistics.subgroups import events_warning, members_of, subgroup

RECORDS = [
    {"gender": 1.0, "age": 59.0, "sct_long_dia": 7.9, "sct_pre_att": 1.0},
    {"gender": 2.0, "age": 60.0, "sct_long_dia": 8.0, "sct_pre_att": 2.0},
    {"gender": 2.0, "age": 70.0, "sct_long_dia": 15.0, "sct_pre_att": 3.0},
    {},
]


def test_limits_belong_to_the_group_above_and_what_is_unknown_is_a_group() -> None:
    groups = members_of(RECORDS, np.array([0.5, 0.6, 0.75, 0.9]))
    found = {title: {name: mask.tolist().index(True) for name, mask in each.items()} for title, each in groups.items()}
    assert found == {
        "sex": {"men": 0, "women": 1, "not known": 3},
        "age": {"under 60 years": 0, "60 to 70 years": 1, "70 years or more": 2, "not known": 3},
        "size": {"under 8 mm": 0, "8 to 15 mm": 1, "15 mm or more": 2, "not known": 3},
        "attenuation": {"soft tissue": 0, "ground glass": 1, "part-solid": 2, "not known": 3},
        "spacing": {"under 0.6 mm": 0, "0.6 to 0.75 mm": 1, "0.75 mm or more": 2},
    }
    assert all(sum(each.values()).tolist() == [1, 1, 1, 1] for each in groups.values())  # type: ignore[attr-defined]
    assert list(members_of(RECORDS)["spacing"]) == ["not known"]


def test_scores_are_of_the_cases_inside() -> None:
    rng = np.random.default_rng(0)
    labels, values = rng.integers(0, 2, 60).astype(float), rng.uniform(size=60)
    labels[5] = np.nan
    patients = [f"p{index // 2}" for index in range(60)]
    mask = np.arange(60) % 3 > 0
    weights = patient_resamples(patients, labels, 200, 0)
    found = subgroup(mask, {"a": values}, labels, patients, weights)
    known = mask & np.isfinite(labels)
    assert found["auroc"]["a"]["mean"] == pytest.approx(roc_auc_score(labels[known], values[known]))
    assert found["auroc"]["a"]["ci95"] is not None
    assert (found["n_cases"], found["n_patients"]) == (40, len({patients[i] for i in np.flatnonzero(mask)}))
    assert found["n_malignant"] + found["n_benign"] == known.sum()


def test_a_subgroup_of_few_malignant_patients_has_no_score() -> None:
    """Five malignant cases of four patients inside; one more is outside."""
    labels = np.array([1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 1], dtype=float)
    mask = np.arange(11) < 10
    found = subgroup(mask, {"a": labels}, labels, list("aabcdefghij"), None)
    assert found["n_malignant"] == 5 and "fewer than 5 patients" in found["auroc"]["a"]["reason"]
    assert subgroup(mask, {"a": labels}, labels, list("abcdefghijk"), None)["auroc"]["a"]["mean"] == 1


@pytest.mark.parametrize(("malignant", "benign", "warned"), [(99, 500, True), (100, 99, True), (100, 100, False)])
def test_few_outcomes_are_warned_of(malignant: int, benign: int, warned: bool) -> None:
    labels = np.concatenate([np.ones(malignant), np.zeros(benign), [np.nan]])
    warning = events_warning(labels)
    assert (warning is not None) == warned and (warning is None or f"{malignant} cases are known" in warning)
