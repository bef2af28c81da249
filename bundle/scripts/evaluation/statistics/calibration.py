"""Whether probabilities mean what they say: Brier score, calibration error, slope and intercept, with intervals.

N is the number of cases and B of bootstrap resamples.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import expit, logit
from sklearn.calibration import calibration_curve

from scripts.arrays import Array
from scripts.evaluation.statistics.metrics import estimate, undefined, weighted_mean, why_undefined

NAMES = ("brier", "ece", "slope", "intercept")

BINS = 10

CLIP = 1e-6  # the logit of 0 and of 1 is not finite


def reliability(probabilities: Array, labels: Array) -> tuple[Array, Array, Array]:
    """Mean probability, share of malignant cases and share of all cases, in each of ten bins of equal width.

    Args:
        probabilities: (N,).
        labels: (N,), 0 or 1.

    Returns:
        Three (K,), K at most 10: empty bins are left out.
    """
    observed, predicted = calibration_curve(labels, probabilities, n_bins=BINS)
    # scikit-learn does not say how many cases a bin has; its bins include their upper edge
    counts = np.bincount(np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], probabilities))
    return predicted, observed, counts[counts > 0] / len(labels)


def calibration_error(probabilities: Array, labels: Array) -> float:
    """Expected calibration error (Naeini et al. 2015): mean distance of a bin's curve from the diagonal, by cases."""
    predicted, observed, share = reliability(probabilities, labels)
    return float((share * np.abs(predicted - observed)).sum())


def logistic_fit(design: Array, offset: Array, labels: Array, weights: Array) -> Array:
    """Coefficients (B, K) of unpenalised logistic regressions, by Newton's method, one per row of weights.

    Equal to scikit-learn's `LogisticRegression(C=inf)`, which knows no offset and takes milliseconds a resample.

    Args:
        design: (N, K).
        offset: (N,), added to the linear predictor as it is.
        labels: (N,), 0 or 1.
        weights: (B, N).

    Returns:
        NaN where there is no finite solution (outcomes that a threshold separates, or one outcome only).
    """
    beta = np.zeros((len(weights), design.shape[1]))
    step = np.full_like(beta, np.inf)
    for _ in range(25):  # quadratic convergence takes about six; without a solution, steps never become small
        fitted = expit(beta @ design.T + offset)
        gradient = (weights * (labels - fitted)) @ design
        hessian = np.einsum("bn,nk,nl->bkl", weights * fitted * (1 - fitted), design, design, optimize=True)
        step = np.einsum("bkl,bl->bk", np.linalg.pinv(hessian, hermitian=True), gradient)
        beta += step
    beta[np.abs(step).max(axis=1) > 1e-6] = np.nan
    return beta


def slope_and_intercept(probabilities: Array, labels: Array, weights: Array) -> tuple[Array, Array]:
    """Cox's calibration slope and calibration in the large (Van Calster et al. 2019, "Calibration: the Achilles heel").

    The slope is that of a logistic regression of the outcome on the log odds (below 1: too extreme); the intercept that
    of one whose slope is held at 1 (below 0: probabilities too high on the whole).

    Args:
        probabilities: (N,).
        labels: (N,), 0 or 1.
        weights: (B, N).

    Returns:
        Slopes and intercepts (B,).
    """
    log_odds = logit(np.clip(probabilities, CLIP, 1 - CLIP))
    ones = np.ones_like(log_odds)
    slope = logistic_fit(np.stack([ones, log_odds], axis=1), np.zeros_like(log_odds), labels, weights)[:, 1]
    return slope, logistic_fit(ones[:, None], log_odds, labels, weights)[:, 0]


def calibration_scores(probabilities: Array, labels: Array, weights: Array | None) -> dict[str, dict[str, Any]]:
    """The four of `NAMES`, as `estimate` or `undefined` give them, over the cases whose outcome is known.

    Args:
        probabilities: (N,).
        labels: (N,), 0, 1 or NaN.
        weights: (B, N) of `patient_resamples`, not stratified: calibration depends on how many cases are malignant, so
            the interval has to hold how much that varies.
    """
    if reason := why_undefined(labels):
        return {name: undefined(reason) for name in NAMES}
    known = np.isfinite(labels)
    probabilities, labels = probabilities[known], labels[known]
    weights = None if weights is None else weights[:, known]
    squares = np.square(probabilities - labels)[None]
    scores = {
        "brier": estimate(squares.mean(axis=1), None if weights is None else weighted_mean(squares, weights)[0]),
        "ece": estimate(
            np.array([calibration_error(probabilities, labels)]),
            reason="no interval, for resampling cases biases the calibration error upwards",
        ),
    }
    values = slope_and_intercept(probabilities, labels, np.ones((1, len(labels))))
    resampled = (None, None) if weights is None else slope_and_intercept(probabilities, labels, weights)
    for name, value, varied in zip(("slope", "intercept"), values, resampled, strict=True):
        finite = np.isfinite(value).all()
        scores[name] = estimate(value, varied) if finite else undefined("not finite, for outcomes can be separated")
    return scores
