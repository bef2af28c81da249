"""The record alone: logistic regression of the outcome on the 13 features at baseline."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, make_scorer
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.pipeline import Pipeline
from torch import Tensor

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
    cases = [case for case in load_datalist(dataset_dir)["training"] if not math.isnan(outcome(case))]
    labels = np.array([outcome(case) for case in cases])
    patients = np.array([case["patient_id"] for case in cases])
    least = min(len(np.unique(patients[labels == label])) for label in (0, 1))
    if least < 2:
        raise ComparatorError(
            f"{dataset_dir}: its training section has fewer than two patients with a malignant, or with a benign, "
            "case; cross-validation needs two of each. Give it more patients whose outcome is known."
        )
    search = GridSearchCV(
        Pipeline([("record", record_encoder()), ("regression", LogisticRegression(max_iter=1000))]),
        {"regression__C": STRENGTHS},
        scoring=make_scorer(log_loss, greater_is_better=False, response_method="predict_proba", labels=[0, 1]),
        cv=StratifiedGroupKFold(min(folds, least), shuffle=True, random_state=seed),
        error_score="raise",
    )
    search.fit(records(cases), labels, groups=patients)
    logger.info(
        f"C = {search.best_params_['regression__C']:.3g} of {len(cases)} cases, log loss {-search.best_score_:.3f}"
    )
    return search


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
