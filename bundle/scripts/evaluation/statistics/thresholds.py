"""Sensitivity and specificity at a threshold that was fixed before these cases were seen.

N is the number of cases and B of bootstrap resamples.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from scripts.arrays import Array
from scripts.evaluation.statistics.metrics import estimate, several, undefined, weighted_mean, why_undefined

SENSITIVITY = 0.9
"""Of the first rule on the validation cases."""

RULES = {
    "sensitive": f"the highest threshold with a sensitivity of {SENSITIVITY:.0%} or more on validation",
    "youden": "the threshold with the highest sum of sensitivity and specificity on validation (Youden 1950)",
    "given": "the threshold that was given",
}
PUBLISHED = "published_"
"""Begins the name of a rule whose threshold was fixed on the weights' own held-out cases, and published with them."""
RULES |= {f"{PUBLISHED}{rule}": f"{RULES[rule]} of the weights" for rule in ("sensitive", "youden")}
"""How a threshold was fixed, by its key in metrics.json."""


def fixed_thresholds(probabilities: Array, labels: Array) -> dict[str, float]:
    """The threshold of each rule on the validation cases; none where one outcome lacks there.

    Args:
        probabilities: (V,).
        labels: (V,), 0, 1 or NaN.

    Example:
        >>> fixed_thresholds(np.array([0.1, 0.2, 0.3, 0.9]), np.array([0, 1, 0, 1]))
        {'sensitive': 0.2, 'youden': 0.9}
    """
    if why_undefined(labels):
        return {}
    known = np.isfinite(labels)
    specificity_lost, sensitivity, limits = roc_curve(labels[known], probabilities[known], drop_intermediate=False)
    enough = int(np.argmax(sensitivity >= SENSITIVITY))
    best = int(np.argmax(sensitivity[1:] - specificity_lost[1:])) + 1  # the first calls nobody
    return {"sensitive": float(limits[enough]), "youden": float(limits[best])}


def operating_point(probabilities: Array, labels: Array, threshold: float, weights: Array | None) -> dict[str, Any]:
    """Sensitivity and specificity at a threshold, of the cases whose outcome is known; the threshold itself is called.

    Args:
        probabilities: (N,).
        labels: (N,), 0, 1 or NaN.
        weights: (B, N) of `patient_resamples`; cases of an outcome that are a single patient's have no interval.

    Returns:
        ``threshold``; ``sensitivity`` and ``specificity``, each as `estimate` gives it, or `undefined` where no case
        has that outcome.
    """
    called = probabilities >= threshold
    return {
        "threshold": threshold,
        "sensitivity": _share(called, labels == 1, weights, "no case is known to be malignant"),
        "specificity": _share(~called, labels == 0, weights, "no case is known to be benign"),
    }


def operating_points(
    probabilities: Array, labels: Array, thresholds: Mapping[str, float], weights: Array | None
) -> dict[str, Any]:
    """`operating_point` by the rule, a key of `RULES`, that fixed its threshold."""
    return {rule: operating_point(probabilities, labels, value, weights) for rule, value in thresholds.items()}


def _share(right: NDArray[np.bool_], members: NDArray[np.bool_], weights: Array | None, reason: str) -> dict[str, Any]:
    """The share of members that are right; resamples without a member are left out of the interval."""
    if not members.any():
        return undefined(reason)
    values = right[members].astype(float)[None]
    drawn = None if weights is None else several(weights[:, members])
    resampled = None if drawn is None else weighted_mean(values, drawn[drawn.sum(axis=1) > 0])[0]
    return estimate(values.mean(axis=1), resampled)
