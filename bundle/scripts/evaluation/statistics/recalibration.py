"""Recalibration: probabilities corrected on the evaluated cases, cross-validated by patient, before and after.

N is the number of cases and B of bootstrap resamples.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from scipy.special import expit

from scripts.arrays import Array
from scripts.evaluation.statistics.calibration import CLIP, log_odds_of, logistic_fit
from scripts.evaluation.statistics.folds import patient_folds, too_few
from scripts.evaluation.statistics.metrics import estimate, undefined, varied, weighted_mean

WAYS = ("as_given", "intercept", "intercept_and_slope")
"""The probabilities as they are, and two recalibrations of them (Van Calster et al. 2019)."""

SCORES = ("brier", "ici", "observed_expected")
"""Keys of a way's scores in metrics.json."""

SPAN = 0.75
"""Share of the cases that each local regression of the calibration curve takes in."""

FEWEST = 5
"""Patients with a malignant, and with a benign, case, below which nothing is recalibrated."""


def smooth(probabilities: Array, labels: Array) -> Array:
    """The calibration curve (N,) at each probability: the share of malignant cases, by local linear regression.

    Cleveland's lowess (1979) without its robust iterations, of the :data:`SPAN` nearest cases with tricube weights;
    where those are all of one probability, their mean.

    Args:
        probabilities: (N,).
        labels: (N,), 0 or 1.
    """
    nearest = max(2, int(np.ceil(SPAN * len(probabilities)))) - 1
    curve = np.empty(len(probabilities))
    for chunk in np.array_split(np.arange(len(probabilities)), 1 + len(probabilities) // 500):
        shift = probabilities[None, :] - probabilities[chunk, None]
        away = np.abs(shift)
        width = np.partition(away, min(nearest, away.shape[1] - 1), axis=1)[:, min(nearest, away.shape[1] - 1)]
        weights = np.clip(1 - (away / np.maximum(width, 1e-12)[:, None]) ** 3, 0, None) ** 3
        weights /= weights.sum(axis=1, keepdims=True)
        centre, level = (weights * shift).sum(axis=1), weights @ labels
        spread = (weights * shift**2).sum(axis=1) - centre**2
        slope = ((weights * shift) @ labels - centre * level) / np.where(spread > 1e-12, spread, np.inf)
        curve[chunk] = level - slope * centre
    return np.clip(curve, 0, 1)


def integrated_calibration_index(probabilities: Array, labels: Array) -> float:
    """Mean distance of the smooth calibration curve from the probabilities (Austin and Steyerberg 2019)."""
    return float(np.abs(smooth(probabilities, labels) - probabilities).mean())


def observed_to_expected(probabilities: Array, labels: Array, weights: Array) -> Array:
    """The number of malignant cases over the sum of probabilities (B,); below 1, probabilities are too high."""
    return (weights @ labels) / np.maximum(weights @ probabilities, CLIP)


def recalibrated(log_odds: Array, labels: Array, fold: Array) -> dict[str, tuple[Array, Array]]:
    """Probabilities out of fold, and coefficients of the whole sample, by way of recalibration.

    Args:
        log_odds: (N,), of the probabilities.
        labels: (N,), 0 or 1.
        fold: (N,), of `patient_folds`; each fold's probabilities are corrected by a regression on the other folds.

    Returns:
        Of each way but the first: (N,), and the intercept and slope; NaN where a regression has no finite solution.
    """
    folds = np.unique(fold)
    weights = np.vstack([fold[None, :] != folds[:, None], np.ones((1, len(fold)))]).astype(float)
    ones, nothing = np.ones_like(log_odds), np.zeros_like(log_odds)
    intercepts = logistic_fit(ones[:, None], log_odds, labels, weights)
    both = logistic_fit(np.stack([ones, log_odds], axis=1), nothing, labels, weights)
    coefficients = {"intercept": np.hstack([intercepts, np.ones_like(intercepts)]), "intercept_and_slope": both}
    place = np.searchsorted(folds, fold)
    return {way: (expit(each[place, 0] + each[place, 1] * log_odds), each[-1]) for way, each in coefficients.items()}


def recalibration_scores(
    probabilities: Array, labels: Array, patients: Sequence[Hashable], weights: Array | None
) -> dict[str, dict[str, Any]]:
    """The scores of `SCORES` of each of `WAYS` over the cases whose outcome is known.

    Args:
        probabilities: (N,).
        labels: (N,), 0, 1 or NaN.
        patients: the patient of each case, N.
        weights: (B, N) of `patient_resamples`, not stratified.

    Returns:
        By way, the scores as `estimate` or `undefined` gives them, and ``coefficients``, intercept and slope on the
        log odds, of the regression on all cases.
    """
    nothing = {"coefficients": None}
    if reason := too_few(patients, labels, FEWEST):
        return {way: dict.fromkeys(SCORES, undefined(reason)) | nothing for way in WAYS}
    known = np.isfinite(labels)
    probabilities, labels, weights = probabilities[known], labels[known], varied(weights, labels)
    fold = patient_folds([patient for patient, keep in zip(patients, known, strict=True) if keep], labels)
    result = {WAYS[0]: _scores(probabilities, labels, weights) | nothing}
    corrected = recalibrated(log_odds_of(probabilities), labels, fold)
    for way, (values, (intercept, slope)) in corrected.items():
        if np.isfinite(values).all() and np.isfinite([intercept, slope]).all():
            coefficients = {"intercept": float(intercept), "slope": float(slope)}
            result[way] = _scores(values, labels, weights) | {"coefficients": coefficients}
        else:
            result[way] = dict.fromkeys(SCORES, undefined("not finite, for outcomes can be separated")) | nothing
    return result


def _scores(probabilities: Array, labels: Array, weights: Array | None) -> dict[str, Any]:
    """The three scores of probabilities (N,), each as `estimate` gives it."""
    squares = np.square(probabilities - labels)[None]
    one = np.ones((1, len(labels)))
    ratio = None if weights is None else observed_to_expected(probabilities, labels, weights)
    return {
        "brier": estimate(squares.mean(axis=1), None if weights is None else weighted_mean(squares, weights)[0]),
        "ici": estimate(
            np.array([integrated_calibration_index(probabilities, labels)]),
            reason="no interval, for resampling cases biases the calibration index upwards",
        ),
        "observed_expected": estimate(observed_to_expected(probabilities, labels, one), ratio),
    }
