"""The record alone: logistic regression of the outcome on the 13 features at baseline."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, make_scorer
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.pipeline import Pipeline
from torch import Tensor

from scripts.arrays import Array
from scripts.comparators.contract import Condition
from scripts.comparators.regression import RecordRegression
from scripts.comparators.tables import ComparatorError
from scripts.data.datalist import load_datalist, outcome
from scripts.diffusion.noise import Draw
from scripts.ehr.encoding import record_encoder, records

logger = logging.getLogger(__name__)

STRENGTHS = np.logspace(-4, 2, 13)
"""Candidates for C, the inverse weight of the L2 penalty."""


def record_regression(dataset_dir: str | Path, folds: int = 5, seed: int = 0) -> GridSearchCV:
    """Fits the logistic regression on the training section's cases with a known outcome.

    The L2 penalty is that of :data:`STRENGTHS` with the lowest log loss in cross-validation, which keeps the cases of a
    patient together. Encoder and regression are then fitted on the whole training section.

    Args:
        folds: of the cross-validation; fewer if fewer patients have a malignant, or a benign, case.
        seed: of the folds.

    Raises:
        ComparatorError: fewer than two patients with a malignant, or with a benign, case.
    """
    cases = with_outcome(load_datalist(dataset_dir)["training"])
    if _least_patients(cases) < 2:
        raise ComparatorError(
            f"{dataset_dir}: its training section has fewer than two patients with a malignant, or with a benign, "
            "case; cross-validation needs two of each. Give it more patients whose outcome is known."
        )
    search = _fitted(cases, folds, seed)
    logger.info(
        f"C = {search.best_params_['regression__C']:.3g} of {len(cases)} cases, log loss {-search.best_score_:.3f}"
    )
    return search


def out_of_fold(cases: Sequence[Mapping[str, Any]], folds: int = 5, seed: int = 0) -> Array | None:
    """Probabilities (N,) of cases by regressions that saw no case of the same patient, penalty and encoder included.

    Args:
        cases: entries of a datalist, with a known outcome.
        folds, seed: as of :func:`record_regression`, in which the penalty is chosen within each fold again.

    Returns:
        None where the patients of an outcome are too few to choose a penalty in each fold.
    """
    least = _least_patients(cases)
    if least < 3:
        return None
    labels, patients = _labels(cases), _patients(cases)
    split = StratifiedGroupKFold(min(folds, least), shuffle=True, random_state=seed)
    probabilities = np.full(len(cases), np.nan)
    for seen, unseen in split.split(labels, labels, patients):
        known = [cases[index] for index in seen]
        if _least_patients(known) < 2:
            return None
        search = _fitted(known, folds, seed)
        probabilities[unseen] = search.predict_proba(records([cases[index] for index in unseen]))[:, 1]
    return probabilities


def with_outcome(cases: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The cases with a known outcome."""
    return [case for case in cases if not math.isnan(outcome(case))]


def _fitted(cases: Sequence[Mapping[str, Any]], folds: int, seed: int) -> GridSearchCV:
    """The regression fitted on cases with a known outcome, of two patients each at least."""
    search = GridSearchCV(
        Pipeline([("record", record_encoder()), ("regression", LogisticRegression(max_iter=1000))]),
        {"regression__C": STRENGTHS},
        scoring=make_scorer(log_loss, greater_is_better=False, response_method="predict_proba", labels=[0, 1]),
        cv=StratifiedGroupKFold(min(folds, _least_patients(cases)), shuffle=True, random_state=seed),
        error_score="raise",
    )
    return search.fit(records(cases), _labels(cases), groups=_patients(cases))


def _labels(cases: Sequence[Mapping[str, Any]]) -> Array:
    return np.array([outcome(case) for case in cases])


def _patients(cases: Sequence[Mapping[str, Any]]) -> NDArray[np.str_]:
    return np.array([str(case["patient_id"]) for case in cases])


def _least_patients(cases: Sequence[Mapping[str, Any]]) -> int:
    """The number of patients with a malignant case, or with a benign one, whichever is smaller."""
    labels, patients = _labels(cases), _patients(cases)
    return min(len(np.unique(patients[labels == label])) for label in (0, 1))


class RecordOnly:
    """The regression as a :class:`~scripts.comparators.contract.ProbabilityMethod`.

    Args:
        regression: the numbers of :func:`record_regression`.
    """

    reads = frozenset({"record"})
    stochastic = False

    def __init__(self, regression: RecordRegression) -> None:
        self.regression = regression

    def probability(self, baseline: Tensor, condition: Sequence[Condition], draw: Draw) -> Tensor:
        """Probabilities of malignancy (B,), see :class:`~scripts.comparators.contract.ProbabilityMethod`."""
        known = records([{"ehr": each.record} for each in condition])
        return torch.from_numpy(self.regression.probability(known))
