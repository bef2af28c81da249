"""Contrasts of methods that were trained several times: intervals over patients and trainings, and Holm's correction.

K is the number of a method's trainings, R of a training's runs, N of cases and B of bootstrap resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from scripts.arrays import Array
from scripts.evaluation.statistics.differences import bootstrap_p
from scripts.evaluation.statistics.metrics import estimate


def mean_of_drawn(scores: Array, draws: Array) -> Array:
    """Means (B,) over trainings that are drawn with replacement in each resample.

    Args:
        scores: (K, B), of each training in each resample of patients.
        draws: uniform in [0, 1), (B, K).
    """
    chosen = (draws * len(scores)).astype(int)
    return scores[chosen.T, np.arange(scores.shape[1])].mean(axis=0)


def contrast(
    score: Callable[[Array, Array], Array],
    first: Sequence[Array],
    second: Sequence[Array],
    weights: Array | None,
    seed: int = 1,
) -> dict[str, Any]:
    """The first method's score less the second's, each the mean over its trainings, of which each is that over runs.

    Each resample draws patients, the same for both methods, and of each method trainings, independently. Of K trainings
    drawn so the variance of their mean is (K - 1) / K of the usual estimate: of one it is 0, of two a half.

    Args:
        score: of values (R, N), with weights (B, N): (R, B).
        first, second: for each of the K trainings of the two methods its values (R, N); K and R may differ.
        weights: (B, N) of :func:`patient_resamples`.
        seed: of the draws of trainings; not that of the patients' draws, lest they go together.

    Returns:
        The result of :func:`estimate`, and ``p`` by :func:`bootstrap_p`.
    """
    ones = np.ones((1, first[0].shape[1]))
    means = [_of_trainings(score, values, ones).mean() for values in (first, second)]
    difference = np.array([means[0] - means[1]])
    if weights is None:
        return {**estimate(difference), "p": None}
    generator = np.random.default_rng(seed)
    drawn = [
        mean_of_drawn(_of_trainings(score, values, weights), generator.random((len(weights), len(values))))
        for values in (first, second)
    ]
    resampled = drawn[0] - drawn[1]
    return {**estimate(difference, resampled), "p": bootstrap_p(resampled)}


def _of_trainings(score: Callable[[Array, Array], Array], trainings: Sequence[Array], weights: Array) -> Array:
    """The score of each training, the mean over its runs, (K, B)."""
    return np.stack([score(runs, weights).mean(axis=0) for runs in trainings])


def holm(p: Sequence[float | None]) -> list[float | None]:
    """P-values corrected for their number m by Holm (1979): of the i-th smallest, max over j <= i of (m - j + 1) p_j.

    At most 1. None stays None and does not count.

    Example:
        >>> holm([0.02, None, 0.01, 0.5])
        [0.04, None, 0.03, 0.5]
    """
    known = np.array([value for value in p if value is not None], dtype=np.float64)
    order, corrected = np.argsort(known), np.empty_like(known)
    corrected[order] = np.maximum.accumulate(known[order] * np.arange(len(known), 0, -1)).clip(max=1.0)
    found = iter(corrected.tolist())
    return [None if value is None else next(found) for value in p]
