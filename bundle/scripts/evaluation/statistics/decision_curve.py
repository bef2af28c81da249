"""Decision curves: the net benefit of acting on a probability, over the thresholds at which one might act.

N is the number of cases, T of thresholds and B of bootstrap resamples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from scripts.arrays import Array
from scripts.evaluation.statistics.metrics import estimate, varied, weighted_mean, why_undefined

THRESHOLDS = np.arange(1, 51) / 100
"""Of the curves."""

SHOWN = (0.05, 0.1, 0.2, 0.3)
"""Thresholds at which differences are given, with intervals."""

ALL, NONE = "treat_all", "treat_none"
"""Names of the two policies that look at no case."""


def benefits(probabilities: Array, labels: Array, thresholds: Array | Sequence[float]) -> Array:
    """What each case adds to the net benefit, (T, N); the net benefit is its mean (Vickers and Elkin 2006).

    At threshold t a malignant case that is acted on counts 1, a benign one -t / (1 - t), the odds at which one would
    just act; a case with a probability of t or more is acted on.

    Args:
        probabilities: (N,).
        labels: (N,), 0 or 1.
        thresholds: T, between 0 and 1.

    Example:
        >>> benefits(np.array([0.1, 0.6, 0.7, 0.9]), np.array([0, 0, 1, 1]), [0.5]).mean(axis=1)
        array([0.25])
    """
    limits = np.asarray(thresholds)[:, None]
    worth = np.where(labels[None, :] == 1, 1.0, -limits / (1 - limits))
    return np.where(probabilities[None, :] >= limits, worth, 0.0)


def net_benefit_differences(
    first: Array, second: Array, labels: Array, weights: Array | None, thresholds: Sequence[float] = SHOWN
) -> dict[str, dict[str, Any]]:
    """By threshold, the first probabilities' net benefit less the second's, as `estimate` gives it.

    Args:
        first, second: (N,); ones treat all, zeros none.
        labels: (N,), 0 or 1.
        weights: (B, N) of `patient_resamples`, not stratified; used for both, so that the bootstrap is paired.
    """
    each = benefits(first, labels, thresholds) - benefits(second, labels, thresholds)
    resampled = [None] * len(each) if weights is None else weighted_mean(each, weights)
    return {
        f"{threshold:g}": estimate(row.mean(keepdims=True), drawn)
        for threshold, row, drawn in zip(thresholds, each, resampled, strict=True)
    }


def decision_curves(
    probabilities: Mapping[str, Array], labels: Array, weights: Array | None, main: str | None = None
) -> dict[str, Any]:
    """Net benefits of each method and of treating all, over the cases whose outcome is known; treating none has 0.

    Args:
        probabilities: by name of the method, (N,).
        labels: (N,), 0, 1 or NaN.
        weights: (B, N) of `patient_resamples`, not stratified, for the net benefit depends on the share of malignant
            cases.
        main: the method that is also held against every other.

    Returns:
        ``thresholds``; ``net_benefit``, by method and for treating all, a number each threshold; ``differences``, by
        method, the policy or method it is held against, and threshold. Or the ``reason`` why there are none.
    """
    if reason := why_undefined(labels):
        return {"reason": reason}
    known = np.isfinite(labels)
    labels, weights = labels[known], varied(weights, labels)
    given = {name: values[known] for name, values in probabilities.items()}
    policies = {ALL: np.ones(len(labels)), NONE: np.zeros(len(labels))}
    against = {name: policies | (_others(given, name) if name == main else {}) for name in given}
    curves = {
        name: benefits(values, labels, THRESHOLDS).mean(axis=1).tolist()
        for name, values in (given | {ALL: policies[ALL]}).items()
    }
    return {
        "thresholds": THRESHOLDS.tolist(),
        "net_benefit": curves,
        "differences": {
            name: {
                other: net_benefit_differences(given[name], values, labels, weights) for other, values in others.items()
            }
            for name, others in against.items()
        },
    }


def _others(given: Mapping[str, Array], name: str) -> dict[str, Array]:
    return {other: values for other, values in given.items() if other != name}
