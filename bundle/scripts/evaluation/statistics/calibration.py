"""Calibration of probabilities: Brier score, expected calibration error, slope and intercept, with intervals.

N is the number of cases and B of bootstrap resamples.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import expit, logit
from sklearn.calibration import calibration_curve

from scripts.arrays import Array
from scripts.evaluation.statistics.metrics import estimate, undefined, varied, weighted_mean, why_undefined

NAMES = ("brier", "ece", "slope", "intercept")
"""Keys of the four scores in metrics.json."""

WITHOUT = "outcomes can be separated, or all probabilities are equal"
"""Why a regression has no finite solution."""

BINS = 10
"""Of equal width, in the calibration curve."""

MAY_LACK = 0.025
"""Share of the resamples with both outcomes that may lack a slope; of more, an end of the interval would be theirs."""

CLIP = 1e-6
"""Distance that probabilities keep from 0 and 1, where their logarithms are infinite."""


def log_odds_of(probabilities: Array | float) -> Array:
    """Log odds of probabilities, which keep the distance :data:`CLIP` from 0 and 1, as far as they are finite."""
    return np.asarray(logit(np.clip(probabilities, CLIP, 1 - CLIP)))


def reliability(probabilities: Array, labels: Array) -> tuple[Array, Array, Array]:
    """Mean probability, share of malignant cases and share of all cases, in each of ten bins of equal width.

    Args:
        probabilities: (N,).
        labels: (N,), 0 or 1.

    Returns:
        Three arrays (K,); K is at most 10, since empty bins are left out.

    Example:
        >>> predicted, observed, share = reliability(np.array([0.1, 0.1, 0.9, 0.9]), np.array([0, 0, 0, 1]))
        >>> predicted, observed, share
        (array([0.1, 0.9]), array([0. , 0.5]), array([0.5, 0.5]))
    """
    observed, predicted = calibration_curve(labels, probabilities, n_bins=BINS)
    # cases per bin, which scikit-learn does not return; as there, bins include their upper edge
    counts = np.bincount(np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], probabilities))
    return predicted, observed, counts[counts > 0] / len(labels)


def calibration_error(probabilities: Array, labels: Array) -> float:
    """Expected calibration error (Naeini et al. 2015): mean distance of the calibration curve from the diagonal."""
    predicted, observed, share = reliability(probabilities, labels)
    return float((share * np.abs(predicted - observed)).sum())


def logistic_fit(design: Array, offset: Array, labels: Array, weights: Array) -> Array:
    """Coefficients (B, K) of unpenalised logistic regressions, by Newton's method, one per row of weights.

    Without an offset they equal those of scikit-learn's `LogisticRegression(C=inf)`, which takes no offset and fits one
    resample at a time. A step that moves some linear predictor by d is shortened to ln(1 + d) / d of itself, so that
    the likelihood never falls, however far the offset is (Sun and Tran-Dinh 2019, "Generalized self-concordant
    functions: a recipe for Newton-type methods", with nu = 2).

    Args:
        design: (N, K).
        offset: (N,), added to the linear predictor.
        labels: (N,), 0 or 1.
        weights: (B, N), how often each case counts.

    Returns:
        (B, K); NaN where there is no finite solution (one outcome only, or outcomes that a threshold separates).
    """
    beta = np.zeros((len(weights), design.shape[1]))
    step = gradient = np.full_like(beta, np.inf)
    for _ in range(30):  # quadratic convergence needs few steps; without a solution, steps do not become small
        fitted = expit(beta @ design.T + offset)
        gradient = (weights * (labels - fitted)) @ design
        hessian = np.einsum("bn,nk,nl->bkl", weights * fitted * (1 - fitted), design, design, optimize=True)
        step = np.einsum("bkl,bl->bk", np.linalg.pinv(hessian, hermitian=True), gradient)
        moved = np.abs(step @ design.T).max(axis=1, keepdims=True)
        step *= np.log1p(moved) / np.where(moved > 0, moved, 1.0)
        beta += step
    solved = (np.abs(step) <= 1e-6) & (np.abs(gradient) <= 1e-6 * weights.sum(axis=1, keepdims=True))
    beta[~solved.all(axis=1)] = np.nan
    return beta


def slope_and_intercept(probabilities: Array, labels: Array, weights: Array) -> tuple[Array, Array]:
    """Cox's calibration slope and calibration in the large (Van Calster et al. 2019, "Calibration: the Achilles heel").

    The slope is that of a logistic regression of the outcome on the log odds; below 1, probabilities are too extreme.
    The intercept is that of a regression with the slope fixed at 1; below 0, probabilities are too high on average.

    Args:
        probabilities: (N,).
        labels: (N,), 0 or 1.
        weights: (B, N).

    Returns:
        Slopes and intercepts (B,); slopes are NaN where all probabilities are equal, too.
    """
    log_odds = log_odds_of(probabilities)
    ones = np.ones_like(log_odds)
    slope = logistic_fit(np.stack([ones, log_odds], axis=1), np.zeros_like(log_odds), labels, weights)[:, 1]
    if np.ptp(log_odds) == 0:
        slope[:] = np.nan
    return slope, logistic_fit(ones[:, None], log_odds, labels, weights)[:, 0]


def calibration_scores(probabilities: Array, labels: Array, weights: Array | None) -> dict[str, dict[str, Any]]:
    """The four scores of `NAMES` over the cases whose outcome is known, each as `estimate` or `undefined` gives it.

    Args:
        probabilities: (N,).
        labels: (N,), 0, 1 or NaN.
        weights: (B, N) of `patient_resamples`, not stratified: calibration depends on the share of malignant cases,
            so the resamples must vary it.
    """
    if reason := why_undefined(labels):
        return {name: undefined(reason) for name in NAMES}
    known = np.isfinite(labels)
    probabilities, labels, weights = probabilities[known], labels[known], varied(weights, labels)
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
    reason = f"not finite, for {WITHOUT}"
    for name, value, drawn in zip(("slope", "intercept"), values, resampled, strict=True):
        lacking = None if drawn is None or weights is None else _why_lacking(drawn, labels, weights)
        kept = None if lacking else drawn
        scores[name] = estimate(value, kept, lacking) if np.isfinite(value).all() else undefined(reason)
    return scores


def _why_lacking(resampled: Array, labels: Array, weights: Array) -> str | None:
    """Why coefficients (B,) have no interval: too many of the resamples with both outcomes have none; None otherwise.

    Those that can be separated would lie beyond all others, so that an interval without them is too short.
    """
    both = (weights @ labels > 0) & (weights @ (1 - labels) > 0)
    share = float(np.isnan(resampled[both]).mean()) if both.any() else 0.0
    return f"no interval, for in {share:.0%} of resamples {WITHOUT}" if share > MAY_LACK else None
