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
"""Differences from the mean (in mm, or in ranks) up to this are taken as rounding errors of zero."""


def balanced_accuracy(classes: Array, truth: Array, weights: Array | None = None) -> Array:
    """Balanced accuracy (R, B): the mean, over the classes that occur, of the share of their cases that is recognised.

    Args:
        classes, truth: predicted (R, N) and true (N,) classes.
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
    """Pearson's correlation (R, B) of each run with the truth, or Spearman's if `ranked`.

    Args:
        values, truth: (R, N) and (N,).
        weights: (B, N), how often each case counts; one row of ones by default.

    Returns:
        (R, B); NaN where values or truth do not vary.

    Example:
        >>> correlation(np.array([[1.0, 2.0, 4.0]]), np.array([2.0, 4.0, 8.0]))
        array([[1.]])
    """
    weights = np.ones((1, len(truth))) if weights is None else weights

    def prepared(each: Array) -> Array:
        return mid_ranks(_places(each), weights) if ranked else each - each.mean()

    target = prepared(truth)
    return np.stack([_pearson(prepared(run), target, weights) for run in values])


def spearman(first: Array, second: Array, weights: Iterable[Array]) -> Array:
    """Spearman's rank correlation for each of several weightings; tied values get their mean rank.

    It equals SciPy's for values that are repeated as often as their weights say. Unlike :func:`correlation` it takes
    the weightings one at a time, which saves memory where there are many values.

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
    """Ranks (B, N) in resamples in which each value occurs as often as its weight says; ties get their mean rank.

    Args:
        places: (N,), of `_places`.
        weights: (B, N) whole numbers.
    """
    counts = np.stack([np.bincount(places, weights=row) for row in weights])
    return np.take(np.cumsum(counts, axis=1) - (counts - 1) / 2, places, axis=1)


def _places(values: Array) -> NDArray[np.integer[Any]]:
    """The index (N,) of each value among the sorted distinct values."""
    return np.unique(values, return_inverse=True)[1]


def _pearson(first: Array, second: Array, weights: Array) -> Array:
    """Pearson's correlation (B,) of values (B, N) or (N,) under weights (B, N); NaN where one of them does not vary."""
    shares = weights / np.maximum(weights.sum(axis=1, keepdims=True), 1.0)

    def centred(each: Array) -> Array:
        each = each - (shares * each).sum(axis=1, keepdims=True)
        return np.where(np.abs(each) > ROUNDING, each, 0.0)

    x, y = centred(first), centred(second)
    with np.errstate(invalid="ignore"):
        return (shares * x * y).sum(axis=1) / np.sqrt((shares * x**2).sum(axis=1) * (shares * y**2).sum(axis=1))
