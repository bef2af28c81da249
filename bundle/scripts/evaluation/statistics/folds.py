"""Folds of cross-validation that keep the cases of a patient together."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from scripts.arrays import Array
from scripts.evaluation.statistics.metrics import why_undefined

FOLDS = 5
"""Of a cross-validation, where there are patients enough."""


def fewest_patients(patients: Sequence[Hashable], labels: Array) -> int:
    """The number of patients with a malignant case, or of those with a benign case, whichever is smaller."""
    names = np.array([str(patient) for patient in patients])
    return min(len(np.unique(names[labels == outcome])) for outcome in (0, 1))


def patient_folds(patients: Sequence[Hashable], labels: Array, folds: int = FOLDS, seed: int = 0) -> Array:
    """The fold (N,) of each case: outcomes are spread evenly over folds, and no patient is in two.

    Args:
        patients: N.
        labels: (N,), 0 or 1, with at least two patients of either.
        folds: fewer if there are fewer patients with a malignant, or with a benign, case.
        seed: of the shuffling of patients.
    """
    from sklearn.model_selection import StratifiedGroupKFold  # what only counts patients does not wait for it

    names = np.array([str(patient) for patient in patients])
    splitter = StratifiedGroupKFold(min(folds, fewest_patients(patients, labels)), shuffle=True, random_state=seed)
    fold = np.empty(len(labels), dtype=int)
    for number, (_, held_out) in enumerate(splitter.split(names, labels, names)):
        fold[held_out] = number
    return fold


def too_few(patients: Sequence[Hashable], labels: Array, fewest: int) -> str | None:
    """Why a cross-validation is not made, for cases (N,) with labels 0, 1 or NaN; None where it can be."""
    if reason := why_undefined(labels):
        return reason
    if (found := fewest_patients(patients, labels)) < fewest:
        return f"not given for fewer than {fewest} patients with a malignant, and with a benign, case; here {found}"
    return None
