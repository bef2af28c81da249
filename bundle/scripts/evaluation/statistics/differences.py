"""The difference of two methods' AUROC on the same cases: paired bootstrap over patients, and DeLong's test.

N is the number of cases and B of bootstrap resamples.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from scipy.stats import norm

from scripts.arrays import Array
from scripts.evaluation.statistics.metrics import auroc, estimate, ordered_pairs, undefined, varied, why_undefined


def delong_variance(first: Array, second: Array, labels: Array, clusters: Sequence[Hashable]) -> float:
    """Variance of the difference between two AUROCs of the same cases (DeLong et al. 1988; Obuchowski 1997).

    A case's placement is the share of cases of the other outcome that are ranked correctly against it; the variance is
    estimated from the placements. Obuchowski sums them within a cluster (a patient), and adds the covariance of a
    cluster's malignant and benign cases. With clusters of one case each the result is DeLong's.

    Args:
        first, second: probabilities (N,).
        labels: (N,), 0 or 1.
        clusters: N, such as the patient of each case; cases of one cluster may depend on each other.

    Returns:
        NaN where fewer than two clusters have a malignant case, or a benign one.
    """
    difference = ordered_pairs(first, labels) - ordered_pairs(second, labels)
    residuals = difference.mean(axis=1) - difference.mean(), difference.mean(axis=0) - difference.mean()
    index = np.unique([str(cluster) for cluster in clusters], return_inverse=True)[1]
    total = index.max() + 1
    sums, counts = [], []
    for outcome, residual in zip((1, 0), residuals, strict=True):
        members = index[labels == outcome]
        sums.append(np.bincount(members, residual, minlength=total) / len(members))
        counts.append(len(np.unique(members)))
    if min(counts) < 2:
        return float("nan")
    own = sum(count / (count - 1) * np.square(part).sum() for count, part in zip(counts, sums, strict=True))
    return float(own + 2 * total / (total - 1) * (sums[0] @ sums[1]))


def delong_p(first: Array, second: Array, labels: Array, clusters: Sequence[Hashable]) -> float | None:
    """Two-sided p-value for no difference between two AUROCs, by `delong_variance`; None where that is not positive."""
    variance = delong_variance(first, second, labels, clusters)
    difference = float(np.subtract(*auroc(np.stack([first, second]), labels)[:, 0]))
    return float(2 * norm.sf(abs(difference) / np.sqrt(variance))) if variance > 0 else None


def bootstrap_p(resampled: Array) -> float | None:
    """Two-sided p-value for no difference, from resampled differences (B,): twice the share on the rarer side of zero.

    It is below 0.05 where the 95% percentile interval excludes zero, and never zero, since the observed value counts as
    a resample (Davison and Hinkley 1997, chapter 4). NaN, from resamples that lack an outcome, are left out.

    Example:
        >>> round(bootstrap_p(np.array([0.1] * 99 + [-0.1])), 4)
        0.0396
    """
    resampled = resampled[np.isfinite(resampled)]
    if len(resampled) < 2:
        return None
    rarer = min((resampled <= 0).sum(), (resampled >= 0).sum())
    return float(min(1.0, 2 * (1 + rarer) / (1 + len(resampled))))


def auroc_difference(
    first: Array, second: Array, labels: Array, patients: Sequence[Hashable], weights: Array | None
) -> dict[str, Any]:
    """The first method's AUROC minus the second's, over the cases whose outcome is known.

    Args:
        first, second: probabilities (N,).
        labels: (N,), 0, 1 or NaN.
        patients: the patient of each case, N.
        weights: (B, N) of `patient_resamples`, used for both methods, so that the bootstrap is paired.

    Returns:
        The result of `estimate`, `p` of the bootstrap, and the p-values of two DeLong tests: `p_delong_clustered`, with
        the cases of a patient as a cluster, and `p_delong_independent`, which assumes independent cases.
    """
    none = dict.fromkeys(("p", "p_delong_clustered", "p_delong_independent"))
    if reason := why_undefined(labels):
        return undefined(reason) | none
    known = np.isfinite(labels)
    both, labels, drawn = np.stack([first, second])[:, known], labels[known], varied(weights, labels)
    patients = [patient for patient, keep in zip(patients, known, strict=True) if keep]
    resampled = None if drawn is None else np.subtract(*auroc(both, labels, drawn))
    return {
        **estimate(np.subtract(*auroc(both, labels)), resampled),
        "p": None if resampled is None else bootstrap_p(resampled),
        "p_delong_clustered": delong_p(both[0], both[1], labels, patients),
        "p_delong_independent": delong_p(both[0], both[1], labels, range(len(labels))),
    }
