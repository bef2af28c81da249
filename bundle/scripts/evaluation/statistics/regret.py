"""Regret to the oracle of a simulated dataset: by how much a method's probabilities are worse than the best possible.

With the oracle's p, the true probability given what a method may know, the expected difference of the logarithmic
losses of a method's q and of p is the Kullback-Leibler divergence of q from p. It needs no outcome, so that it varies
less than a difference of losses, and it is 0 for q = p alone. q is clipped to [1e-6, 1 - 1e-6], so that certainty that
is wrong does not cost endlessly. Since the divergence is convex, averaging probabilities over runs lowers it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from scipy.special import rel_entr

from scripts.arrays import Array
from scripts.evaluation.statistics.calibration import CLIP
from scripts.evaluation.statistics.metrics import estimate, several, undefined, weighted_mean


def divergence(oracle: Array, probabilities: Array) -> Array:
    """Kullback-Leibler divergence, in nats, of probabilities (..., N) from the oracle's (N,).

    Example:
        >>> divergence(np.array([0.5, 0.5, 1.0]), np.array([0.5, 0.25, 0.5])).round(4)
        array([0.    , 0.1438, 0.6931])
    """
    given = np.clip(probabilities, CLIP, 1 - CLIP)
    return np.asarray(rel_entr(oracle, given) + rel_entr(1 - oracle, 1 - given))


def regrets(
    probabilities: Mapping[str, Array],
    oracle: Array,
    informed: Array,
    seen: Collection[str],
    baseline: str,
    weights: Array | None,
) -> dict[str, dict[str, Any]] | None:
    """The regret of each method, in nats, and its share of the real baseline's.

    Args:
        probabilities: (R, N) by method, of R runs, whose regrets are averaged.
        oracle: the oracle's, given rating and record (N,); NaN where it is not known.
        informed: the oracle's, given growth too (N,).
        seen: methods that see the real follow-up; these are held against ``informed``.
        baseline: the method whose regret the shares are of.
        weights: (B, N) of `patient_resamples`, not stratified.

    Returns:
        By method ``regret`` and ``of_baseline``, as `estimate` gives them; None where the oracle is not known.
    """
    known = np.isfinite(oracle) & np.isfinite(informed)
    if not known.any():
        return None
    resamples = None if weights is None else several(weights[:, known])
    losses = {
        name: divergence((informed if name in seen else oracle)[known], values[:, known])
        for name, values in probabilities.items()
    }
    means = {name: loss.mean(axis=1) for name, loss in losses.items()}
    varied = {
        name: None if resamples is None else weighted_mean(loss, resamples).mean(axis=0)
        for name, loss in losses.items()
    }
    return {
        name: {"regret": estimate(means[name], varied[name]), "of_baseline": _share(name, baseline, means, varied)}
        for name in probabilities
    }


def _share(name: str, baseline: str, means: Mapping[str, Array], varied: Mapping[str, Array | None]) -> dict[str, Any]:
    """A method's regret over the baseline's, as `estimate` or `undefined` give it."""
    if means[baseline][0] <= 0:
        return undefined("the baseline's regret is 0")
    own, base = varied[name], varied[baseline]
    if own is None or base is None:
        return estimate(means[name] / means[baseline])
    return estimate(means[name] / means[baseline], own / np.where(base > 0, base, np.nan))
