"""Correlations and balanced accuracy under bootstrap weights.

R is the number of runs, N of cases and B of resamples.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scripts.arrays import Array

ROUNDING = 1e-9
"""mm (or ranks) that no measurement distinguishes: what lies nearer to the mean does not vary."""


def balanced_accuracy(classes: Array, truth: Array, weights: Array | None = None) -> Array:
    """Mean over the classes that occur of the share that is recognised, (R, B); "always stable" gets 1/3 of three.

    Args:
        classes, truth: (R, N) and (N,).
        weights: (B, N), how often each case counts; one row of ones by default.
    """
    weights = np.ones((1, len(truth))) if weights is None else weights
    shares = []
    with np.errstate(invalid="ignore"):  # a resample may lack a class
        for label in np.unique(truth):
            counted = weights * (truth == label)
            shares.append((classes == label) @ counted.T / counted.sum(axis=1))
    return np.nanmean(shares, axis=0)


def correlation(values: Array, truth: Array, weights: Array | None = None, ranked: bool = False) -> Array:
    """Pearson's correlation of each run with the truth, or with `ranked` Spearman's, (R, B).

    Args:
        values, truth: (R, N) and (N,).
        weights: (B, N), how often each case counts; one row of ones by default.

    Returns:
        NaN where either does not vary.
    """
    weights = np.ones((1, len(truth))) if weights is None else weights

    def prepared(each: Array) -> Array:
        return mid_ranks(_places(each), weights) if ranked else each - each.mean()

    target = prepared(truth)
    return np.stack([_pearson(prepared(run), target, weights) for run in values])


def spearman(first: Array, second: Array, weights: Iterable[Array]) -> Array:
    """Spearman's rank correlation, ties by their mean rank, for each weighting: equal to SciPy's of repeated values.

    :func:`correlation` for so many values that the weightings have to come one at a time.

    Args:
        first, second: (P,).
        weights: each (P,), how often each value counts.

    Returns:
        A number for each weighting; NaN where one of the two is constant.

    Example:
        >>> spearman(np.array([1.0, 2.0, 4.0]), np.array([10.0, 30.0, 20.0]), [np.ones(3)]).round(2).tolist()
        [0.5]
    """
    places = _places(first), _places(second)
    found = []
    for row in weights:
        ranks = [mid_ranks(each, row[None]) for each in places]
        found.append(_pearson(ranks[0], ranks[1], row[None]))
    return np.concatenate(found)


def mid_ranks(places: NDArray[np.integer[Any]], weights: Array) -> Array:
    """Mean ranks (B, N) in resamples where each value occurs as often as its weight says; ties share their mean.

    Args:
        places: (N,), the values numbered by size.
        weights: (B, N) whole numbers.
    """
    counts = np.stack([np.bincount(places, weights=row) for row in weights])
    return np.take(np.cumsum(counts, axis=1) - (counts - 1) / 2, places, axis=1)


def _places(values: Array) -> NDArray[np.integer[Any]]:
    """The values (N,) numbered by size, equal ones alike."""
    return np.unique(values, return_inverse=True)[1]


def _pearson(first: Array, second: Array, weights: Array) -> Array:
    """Pearson's correlation (B,) of values (B, N), or (N,), with weights (B, N); NaN where one does not vary."""
    shares = weights / np.maximum(weights.sum(axis=1, keepdims=True), 1.0)

    def centred(each: Array) -> Array:
        each = each - (shares * each).sum(axis=1, keepdims=True)
        return np.where(np.abs(each) > ROUNDING, each, 0.0)

    x, y = centred(first), centred(second)
    with np.errstate(invalid="ignore"):
        return (shares * x * y).sum(axis=1) / np.sqrt((shares * x**2).sum(axis=1) * (shares * y**2).sum(axis=1))
