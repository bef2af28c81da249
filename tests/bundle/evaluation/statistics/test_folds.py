"""Folds keep patients together, and say where they cannot be made."""

from __future__ import annotations

import numpy as np

from scripts.evaluation.statistics.folds import patient_folds, too_few


def test_no_patient_is_in_two_folds_and_each_fold_has_both_outcomes() -> None:
    rng = np.random.default_rng(0)
    patients = [f"p{number}" for number in rng.integers(0, 40, 120)]
    labels = rng.integers(0, 2, 120).astype(float)
    fold = patient_folds(patients, labels)
    assert set(fold) == set(range(5))
    for patient in set(patients):
        assert len({each for each, name in zip(fold, patients, strict=True) if name == patient}) == 1
    assert all(set(labels[fold == number]) == {0.0, 1.0} for number in range(5))
    np.testing.assert_array_equal(fold, patient_folds(patients, labels))


def test_few_patients_have_few_folds() -> None:
    labels = np.array([1, 1, 1, 0, 0, 0, 0, 0, 0, 0], dtype=float)
    fold = patient_folds(["a", "a", "b", *"cdefghi"], labels)
    assert set(fold) == {0, 1}, "two patients have a malignant case"


def test_too_few_patients_are_named_not_cases() -> None:
    labels = np.array([1, 1, 1, 0, 0, np.nan])
    assert too_few(["a", "a", "a", "b", "c", "d"], labels, 2) == (
        "not given for fewer than 2 patients with a malignant, and with a benign, case; here 1"
    )
    assert too_few(list("abcdef"), labels, 2) is None
    assert too_few(list("abcdef"), np.full(6, np.nan), 2) == "no case has a known outcome"
    assert too_few(list("abcdef"), np.zeros(6), 2) == "all cases with a known outcome are benign"
