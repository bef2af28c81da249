"""What generated images add to record and baseline: nested logistic models, judged out of fold.

N is the number of cases and B of bootstrap resamples.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from scipy.special import expit, xlogy
from scipy.stats import chi2
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline

from scripts.arrays import Array
from scripts.ehr.encoding import record_encoder
from scripts.evaluation.statistics.calibration import log_odds_of, logistic_fit
from scripts.evaluation.statistics.decision_curve import net_benefit_differences
from scripts.evaluation.statistics.differences import auroc_difference
from scripts.evaluation.statistics.folds import patient_folds, too_few
from scripts.evaluation.statistics.metrics import classification, side, varied

STRENGTH = 0.1
"""Inverse weight of the L2 penalty in the regression on the record, fixed, so that nothing is chosen on these cases."""

FEWEST = 10
"""Patients with a malignant, and with a benign, case, below which the models are not fitted."""

MODELS = ("record_and_baseline", "with_generated")
"""The smaller model, and the one that also has the generated images' score."""


def record_regression() -> Pipeline:
    """The unfitted regression of the outcome on the 13 features."""
    return make_pipeline(record_encoder(), LogisticRegression(C=STRENGTH, max_iter=1000))


def record_score(records: Array, labels: Array, patients: Sequence[Hashable]) -> Array:
    """The log odds (N,) of the regression on the record, each from a fit without the case's fold of patients."""
    fold = patient_folds(patients, labels)
    score = np.empty(len(labels))
    for number in np.unique(fold):
        held = fold == number
        score[held] = record_regression().fit(records[~held], labels[~held]).decision_function(records[held])
    return score


def log_likelihood(design: Array, labels: Array, beta: Array) -> float:
    """Of a logistic regression with coefficients (K,), for a design (N, K)."""
    fitted = expit(design @ beta)
    return float((xlogy(labels, fitted) + xlogy(1 - labels, 1 - fitted)).sum())


def likelihood_ratio(smaller: Array, larger: Array, labels: Array) -> dict[str, Any]:
    """The likelihood ratio test of two nested logistic regressions, given their designs (N, K) and (N, K + d).

    Returns:
        ``chi2``, ``df`` and ``p``, which takes cases as independent; or the ``reason`` why there is none.
    """
    one = np.ones((1, len(labels)))
    fits = [logistic_fit(design, np.zeros(len(labels)), labels, one)[0] for design in (smaller, larger)]
    if not all(np.isfinite(beta).all() for beta in fits):
        return {"chi2": None, "df": None, "p": None, "reason": "not finite, for outcomes can be separated"}
    levels = [log_likelihood(design, labels, beta) for design, beta in zip((smaller, larger), fits, strict=True)]
    statistic, degrees = max(0.0, 2 * (levels[1] - levels[0])), larger.shape[1] - smaller.shape[1]
    return {"chi2": statistic, "df": degrees, "p": float(chi2.sf(statistic, degrees))}


def out_of_fold(
    records: Array,
    scores: Sequence[Array],
    labels: Array,
    patients: Sequence[Hashable],
    record: Array | None = None,
) -> list[Array]:
    """Probabilities (N,) of the two `MODELS`, each from fits without the case's fold of patients.

    Within the other folds, the record's score is cross-fitted once more, so that the models weigh it as it is on unseen
    cases.

    Args:
        records: (N, 13), of :func:`scripts.ehr.records`.
        scores: of the baseline and of the generated images, log odds (N,).
        labels: (N,), 0 or 1.
        patients: N.
        record: log odds (N,) by a regression on the record that was fitted on other patients; it replaces the one here.
    """
    fold, names = patient_folds(patients, labels), np.array([str(patient) for patient in patients])
    found = np.full((len(MODELS), len(labels)), np.nan)
    for number in np.unique(fold):
        held = fold == number
        if record is None:
            inner = record_score(records[~held], labels[~held], names[~held].tolist())
            outer = record_regression().fit(records[~held], labels[~held]).decision_function(records[held])
        else:
            inner, outer = record[~held], record[held]
        for model in range(len(MODELS)):
            used = scores[: 1 + model]
            fitted = _design(inner, *(each[~held] for each in used))
            one = np.ones((1, len(fitted)))
            beta = logistic_fit(fitted, np.zeros(len(fitted)), labels[~held], one)[0]
            found[model, held] = expit(_design(outer, *(each[held] for each in used)) @ beta)
    return list(found)


def added_by_images(
    records: Array,
    probabilities: Sequence[Array],
    labels: Array,
    patients: Sequence[Hashable],
    weights: tuple[Array | None, Array | None],
    record: Array | None = None,
) -> dict[str, Any]:
    """What a score of generated images adds to the record and the baseline's score, where the outcome is known.

    Args:
        records: (N, 13), of :func:`scripts.ehr.records`.
        probabilities: (N,), those read from the real baselines, and those from the generated follow-ups.
        labels: (N,), 0, 1 or NaN.
        patients: N.
        weights: (B, N) of `patient_resamples`, as the AUROC has it, and not stratified.
        record: probabilities (N,) by a regression on the record that was fitted on other patients; without it, one is
            fitted here, out of fold.

    Returns:
        ``auroc`` of each of `MODELS`, ``auroc_difference`` of the two and ``net_benefit_difference`` by threshold, all
        out of fold; ``likelihood_ratio``, in the sample; ``shown``, whether the difference's interval is above zero.
        Or the ``reason`` why there is none.
    """
    if reason := too_few(patients, labels, FEWEST):
        return {"reason": reason}
    known, (drawn, plain) = np.isfinite(labels), (varied(each, labels) for each in weights)
    patients = [patient for patient, keep in zip(patients, known, strict=True) if keep]
    records, labels = records[known], labels[known]
    scores = [log_odds_of(each[known]) for each in probabilities]
    record = None if record is None else log_odds_of(record[known])
    smaller, larger = out_of_fold(records, scores, labels, patients, record)
    if not np.isfinite([smaller, larger]).all():
        return {"reason": "not finite, for outcomes can be separated"}
    difference = auroc_difference(larger, smaller, labels, patients, drawn)
    record = record_score(records, labels, patients) if record is None else record
    return {
        "auroc": {
            name: classification(values[None], labels, drawn)["auroc"]
            for name, values in zip(MODELS, (smaller, larger), strict=True)
        },
        "auroc_difference": difference,
        "net_benefit_difference": net_benefit_differences(larger, smaller, labels, plain),
        "likelihood_ratio": likelihood_ratio(_design(record, scores[0]), _design(record, *scores), labels),
        "shown": difference["ci95"] is not None and side(difference["ci95"]) > 0,
    }


def _design(*columns: Array) -> Array:
    """Columns (N, 1 + K) with a first one of ones."""
    return np.stack([np.ones_like(columns[0]), *columns], axis=1)
