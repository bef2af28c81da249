"""What a latent space tells about nodules: whether it orders them as their attributes do, and shows their diameters.

N is the number of cases, P = N (N - 1) / 2 of their pairs, and B of bootstrap resamples.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import pdist
from sklearn.linear_model import RidgeCV

from scripts.ehr import attributes
from scripts.evaluation.metrics import Array, estimate, undefined

PENALTIES = np.logspace(0, 4, 9)
FEWEST = 10
"""Cases, below which neither a correlation nor a fit says anything."""

DEFINITIONS = {
    "distance_correlation": "Spearman's rank correlation, over the pairs of unseen cases, of the distance between "
    "latents averaged over space (what the alignment loss compares) and that between standardised attributes",
    "diameter_r2": "R² on unseen cases of the long diameter's logarithm, read from the whole latent by ridge "
    "regression fitted on the training cases (penalty by leave-one-out among them); 0 is no better than the mean",
}


@dataclass(frozen=True)
class Nodules:
    """What is known of N nodules: their crops' latents and their records.

    Attributes:
        latents: (N, C, h, w), or (N, C) without space.
        attributes: (N, F), standardised as the alignment loss takes them; NaN where the nodule cannot be placed.
        diameters: (N,), long, in mm, NaN where unknown.
    """

    latents: Array
    attributes: Array
    diameters: Array

    @classmethod
    def of(cls, latents: Array, cases: Sequence[Mapping[str, Any]]) -> Nodules:
        """From the latents of the cases' baselines and the cases' entries in the datalist."""
        records = [case.get("ehr", {}) for case in cases]
        diameters = [record.get("sct_long_dia") for record in records]
        return cls(
            latents,
            np.array([attributes(record) for record in records], dtype=np.float64),
            np.array([np.nan if value is None else value for value in diameters], dtype=np.float64),
        )


def averaged(latents: Array) -> Array:
    """Latents (N, C, h, w) averaged over space, (N, C), as the alignment loss sees them."""
    return latents.reshape(*latents.shape[:2], -1).mean(axis=2)


def latent_scores(unseen: Nodules, training: Nodules | None, weights: Array | None) -> dict[str, dict[str, Any]]:
    """Both scores of `DEFINITIONS`, as `estimate` or `undefined` give them.

    Args:
        unseen: the cases that are evaluated.
        training: the cases that the read-out is fitted on; without them there is none.
        weights: (B, N) of `patient_resamples`, of the unseen cases.
    """
    return {
        "distance_correlation": distance_correlation(unseen, weights),
        "diameter_r2": undefined("no training cases to fit on") if training is None else r2(unseen, training, weights),
    }


def distance_correlation(nodules: Nodules, weights: Array | None) -> dict[str, Any]:
    """Spearman's correlation of latent and attribute distances; resamples never pair a case with its own double."""
    known = np.isfinite(nodules.attributes).all(axis=1)
    if known.sum() < FEWEST:
        return undefined(f"not given for fewer than {FEWEST} cases with known attributes")
    latent, attribute = pdist(averaged(nodules.latents)[known]), pdist(nodules.attributes[known])
    if np.ptp(latent) == 0 or np.ptp(attribute) == 0:
        return undefined("not defined where all distances are the same")
    first, second = np.triu_indices(int(known.sum()), 1)  # in the order of pdist
    pairs = None if weights is None else (row[first] * row[second] for row in weights[:, known])
    value = spearman(latent, attribute, [np.ones(len(latent))])
    return estimate(value, None if pairs is None else spearman(latent, attribute, pairs))


def spearman(first: Array, second: Array, weights: Iterable[Array]) -> Array:
    """Spearman's rank correlation, ties by their mean rank, for each weighting: equal to SciPy's of repeated values.

    Args:
        first, second: (P,).
        weights: each (P,), how often each value counts.

    Returns:
        A number for each weighting; NaN where one of the two is constant.
    """
    places = [np.unique(values, return_inverse=True)[1] for values in (first, second)]
    return np.array([_correlation(_ranks(places[0], each), _ranks(places[1], each), each) for each in weights])


def _ranks(places: NDArray[np.integer[Any]], weights: Array) -> Array:
    """Mean ranks (P,) where each value occurs as often as its weight says; `places` numbers the values by size."""
    counts = np.bincount(places, weights=weights)
    return (np.cumsum(counts) - (counts - 1) / 2)[places]


def _correlation(first: Array, second: Array, weights: Array) -> float:
    """Pearson's correlation with weights; NaN where one of the two is constant."""
    share = weights / max(weights.sum(), 1.0)
    first, second = first - share @ first, second - share @ second
    spread = np.sqrt((share @ first**2) * (share @ second**2))
    return float(share @ (first * second) / spread) if spread > 0 else float("nan")


def r2(unseen: Nodules, training: Nodules, weights: Array | None) -> dict[str, Any]:
    """R² of the log diameter of unseen nodules, read linearly from whole latents."""
    known, fitted = (np.isfinite(nodules.diameters) for nodules in (unseen, training))
    if min(known.sum(), fitted.sum()) < FEWEST:
        return undefined(f"not given for fewer than {FEWEST} unseen or training cases with a known diameter")
    flat = [nodules.latents.reshape(len(nodules.latents), -1) for nodules in (unseen, training)]
    model = RidgeCV(PENALTIES).fit(flat[1][fitted], np.log(training.diameters[fitted]))
    truth, read = np.log(unseen.diameters[known]), model.predict(flat[0][known])
    value = _explained(truth, read, np.ones((1, len(truth))))
    return estimate(value, None if weights is None else _explained(truth, read, weights[:, known]))


def _explained(truth: Array, read: Array, weights: Array) -> Array:
    """Coefficient of determination (B,) under weights (B, N); NaN where the truth does not vary."""
    total = weights.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = weights @ truth**2 - (weights @ truth) ** 2 / total
        return 1 - (weights @ (truth - read) ** 2) / np.where(spread > 1e-12, spread, np.nan)
