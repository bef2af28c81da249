"""Scores of a latent space: do its distances follow nodule attributes, and can diameters be predicted from it?

N is the number of cases, P = N (N - 1) / 2 of their pairs, and B of bootstrap resamples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial.distance import pdist
from sklearn.linear_model import RidgeCV

from scripts.arrays import Array
from scripts.evaluation.statistics.correlation import spearman
from scripts.evaluation.statistics.metrics import estimate, several, undefined
from scripts.evaluation.study import Cases

PENALTIES = np.logspace(0, 4, 9)
"""Candidates for the ridge regression's penalty."""

FEWEST = 10
"""Number of cases below which no score is given."""

DEFINITIONS = {
    "distance_correlation": "Spearman's rank correlation, over the pairs of unseen cases, of the distance between "
    "latents averaged over space (what the alignment loss compares) and that between standardised attributes",
    "diameter_r2": "R² on unseen cases of the long diameter's logarithm, read from the whole latent by ridge "
    "regression fitted on the training cases (penalty by leave-one-out among them); 0 is no better than the mean",
}


@dataclass(frozen=True)
class Nodules:
    """N nodules in a latent space.

    Attributes:
        latents: of their baselines, (N, C, h, w) or (N, C).
        cases: their records.
    """

    latents: Array
    cases: Cases

    @property
    def diameters(self) -> Array:
        """Long diameters (N,) in mm, NaN where unknown."""
        return self.cases.diameters[:, 0]


def averaged(latents: Array) -> Array:
    """Latents (N, C, h, w) averaged over space, (N, C), as in the alignment loss."""
    return latents.reshape(*latents.shape[:2], -1).mean(axis=2)


def latent_scores(unseen: Nodules, training: Nodules | None, weights: Array | None) -> dict[str, dict[str, Any]]:
    """The two scores that `DEFINITIONS` describes, as `estimate` or `undefined` give them.

    Args:
        unseen: the evaluated cases.
        training: cases that the regression of the diameter is fitted on; without them it is not made.
        weights: (B, N) of `patient_resamples`, of the unseen cases.
    """
    return {
        "distance_correlation": distance_correlation(unseen, weights),
        "diameter_r2": undefined("no training cases to fit on") if training is None else r2(unseen, training, weights),
    }


def distance_correlation(nodules: Nodules, weights: Array | None) -> dict[str, Any]:
    """Spearman's correlation of latent and attribute distances; resamples do not pair a case with a copy of itself."""
    attributes = nodules.cases.attributes
    known = np.isfinite(attributes).all(axis=1)
    if known.sum() < FEWEST:
        return undefined(f"not given for fewer than {FEWEST} cases with known attributes")
    latent, attribute = pdist(averaged(nodules.latents)[known]), pdist(attributes[known])
    if np.ptp(latent) == 0 or np.ptp(attribute) == 0:
        return undefined("not defined where all distances are the same")
    first, second = np.triu_indices(int(known.sum()), 1)  # in the order of pdist
    drawn = None if weights is None else several(weights[:, known])
    pairs = None if drawn is None else (row[first] * row[second] for row in drawn)
    value = spearman(latent, attribute, [np.ones(len(latent))])
    return estimate(value, None if pairs is None else spearman(latent, attribute, pairs))


def r2(unseen: Nodules, training: Nodules, weights: Array | None) -> dict[str, Any]:
    """R² of the log diameter of unseen nodules, predicted from whole latents by ridge regression."""
    known, fitted = (np.isfinite(nodules.diameters) for nodules in (unseen, training))
    if min(known.sum(), fitted.sum()) < FEWEST:
        return undefined(f"not given for fewer than {FEWEST} unseen or training cases with a known diameter")
    flat = [nodules.latents.reshape(len(nodules.latents), -1) for nodules in (unseen, training)]
    model = RidgeCV(PENALTIES).fit(flat[1][fitted], np.log(training.diameters[fitted]))
    truth, read = np.log(unseen.diameters[known]), model.predict(flat[0][known])
    value = _explained(truth, read, np.ones((1, len(truth))))
    drawn = None if weights is None else several(weights[:, known])
    return estimate(value, None if drawn is None else _explained(truth, read, drawn))


def _explained(truth: Array, read: Array, weights: Array) -> Array:
    """Coefficients of determination (B,) under weights (B, N); NaN where the truth does not vary."""
    total = weights.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = weights @ truth**2 - (weights @ truth) ** 2 / total
        return 1 - (weights @ (truth - read) ** 2) / np.where(spread > 1e-12, spread, np.nan)
