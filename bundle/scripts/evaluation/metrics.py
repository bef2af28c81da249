"""The paper's four metrics (section 4.1.2), per run, with confidence intervals over patients.

Throughout, R is the number of runs, N of cases and B of bootstrap resamples.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]


def auroc(probabilities: Array, labels: Array, weights: Array | None = None) -> Array:
    """Area under the ROC curve, ties counted half: the share of (malignant, benign) pairs in the right order.

    Equal to `sklearn.metrics.roc_auc_score`, which would take minutes where B resamples of R runs are wanted.

    Args:
        probabilities: (R, N).
        labels: (N,), 0 or 1.
        weights: (B, N), how often each case counts; one row of ones by default.

    Returns:
        (R, B); NaN where a resample lacks one of the outcomes.
    """
    weights = np.ones((1, len(labels))) if weights is None else weights
    malignant, benign = labels == 1, labels == 0
    positive, negative = weights[:, malignant], weights[:, benign]
    areas = []
    for run in probabilities:
        difference = run[malignant][:, None] - run[benign][None, :]
        ordered = (difference > 0) + 0.5 * (difference == 0)
        areas.append(((positive @ ordered) * negative).sum(axis=1))
    with np.errstate(invalid="ignore"):
        return np.stack(areas) / (positive.sum(axis=1) * negative.sum(axis=1))


def auprc(probabilities: Array, labels: Array, weights: Array | None = None) -> Array:
    """Average precision: the mean, over malignant cases, of the precision at that case's probability.

    Equal to `sklearn.metrics.average_precision_score`. Arguments and result as in `auroc`.
    """
    weights = np.ones((1, len(labels))) if weights is None else weights
    malignant = labels == 1
    positive = weights[:, malignant]
    averages = []
    for run in probabilities:
        called = (run[None, :] >= run[malignant][:, None]).astype(np.float64)
        # where a resample has no case above a threshold, its malignant case has no weight there either
        with np.errstate(invalid="ignore"):
            precision = (positive @ called[:, malignant].T) / (weights @ called.T)
        averages.append(np.where(positive > 0, positive * precision, 0.0).sum(axis=1))
    with np.errstate(invalid="ignore"):
        return np.stack(averages) / positive.sum(axis=1)


def weighted_mean(values: Array, weights: Array | None = None) -> Array:
    """Mean over cases of `values` (R, N) with `weights` (B, N), as (R, B)."""
    weights = np.ones((1, values.shape[1])) if weights is None else weights
    return values @ (weights / weights.sum(axis=1, keepdims=True)).T


def frechet_distance(first: Array, second: Array) -> float:
    """Fréchet distance between the Gaussians of two sets of features (Heusel et al. 2017).

    |m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2). With S = A^T A, where A holds the centred features over
    sqrt(n - 1), the last trace is the sum of the singular values of A1 A2^T: no root of a matrix, and no trouble where
    there are fewer cases than features. A QR decomposition first makes A no taller than it is wide.

    Args:
        first, second: (n1, D) and (n2, D), two rows at least in each.
    """
    means, factors = [], []
    for features in (np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)):
        means.append(features.mean(axis=0))
        factors.append(np.asarray(np.linalg.qr((features - means[-1]) / np.sqrt(len(features) - 1), mode="r")))
    cross = np.linalg.svd(factors[0] @ factors[1].T, compute_uv=False).sum()
    spread = sum(float(np.square(factor).sum()) for factor in factors) - 2.0 * float(cross)
    return max(0.0, float(np.square(means[0] - means[1]).sum()) + spread)


def patient_resamples(patients: Sequence[Hashable], resamples: int, seed: int) -> Array:
    """Bootstrap weights (B, N): patients are drawn with replacement and bring all their cases along.

    Cases of one patient are not independent, so drawing cases would make intervals too narrow.
    """
    unique, index = np.unique([str(patient) for patient in patients], return_inverse=True)
    drawn = np.random.default_rng(seed).multinomial(len(unique), np.full(len(unique), 1 / len(unique)), size=resamples)
    return drawn[:, index].astype(np.float64)


def estimate(per_run: Array, resampled: Array | None = None, reason: str | None = None) -> dict[str, Any]:
    """Summary of a metric as it stands in metrics.json.

    Args:
        per_run: (R,).
        resampled: (B,), the mean over runs in each bootstrap resample, NaN where undefined.
        reason: why there is no interval.

    Returns:
        `mean` over runs, sample standard deviation `std` over runs (null for one run), `ci95` (2.5th and 97.5th
        percentile of the bootstrap), and `reason` where something is null that might be expected.
    """
    result: dict[str, Any] = {
        "mean": float(np.mean(per_run)),
        "std": float(np.std(per_run, ddof=1)) if len(per_run) > 1 else None,
        "ci95": None,
    }
    if resampled is not None and np.isfinite(resampled).sum() > 1:
        result["ci95"] = [float(bound) for bound in np.nanpercentile(resampled, [2.5, 97.5])]
    else:
        result["reason"] = reason or "no interval, for there are too few patients"
    return result


def undefined(reason: str) -> dict[str, Any]:
    """A metric that cannot be computed, and why."""
    return {"mean": None, "std": None, "ci95": None, "reason": reason}


def classification(
    probabilities: Array, labels: Array, patients: Sequence[Hashable], resamples: int, seed: int
) -> dict[str, dict[str, Any]]:
    """AUROC and AUPRC of (R, N) probabilities over the cases whose outcome is known (labels not NaN).

    Returns:
        `{"auroc": ..., "auprc": ...}`, each as `estimate` or `undefined` give it.
    """
    known = np.isfinite(labels)
    labels, probabilities = labels[known], probabilities[:, known]
    patients = [patient for patient, keep in zip(patients, known, strict=True) if keep]
    if len(labels) == 0:
        return dict.fromkeys(("auroc", "auprc"), undefined("no case has a known outcome"))
    if len(np.unique(labels)) < 2:
        outcome = "malignant" if labels[0] == 1 else "benign"
        return dict.fromkeys(("auroc", "auprc"), undefined(f"all cases with a known outcome are {outcome}"))
    weights = patient_resamples(patients, resamples, seed) if len(set(patients)) > 1 else None
    scores = {}
    for name, metric in (("auroc", auroc), ("auprc", auprc)):
        resampled = None if weights is None else metric(probabilities, labels, weights).mean(axis=0)
        scores[name] = estimate(metric(probabilities, labels)[:, 0], resampled)
    return scores


def similarity(distances: Array, patients: Sequence[Hashable], resamples: int, seed: int) -> dict[str, Any]:
    """Mean perceptual distance from (R, N) distances, as `estimate` gives it."""
    resampled = None
    if len(set(patients)) > 1:
        resampled = weighted_mean(distances, patient_resamples(patients, resamples, seed)).mean(axis=0)
    return estimate(distances.mean(axis=1), resampled)


def fid(features: Array, real: Array) -> dict[str, Any]:
    """Fréchet distance of the features (R, N, D) of each run to those of real images (M, D)."""
    if features.shape[1] < 2 or len(real) < 2:
        return undefined("not defined for fewer than two cases")
    per_run = np.array([frechet_distance(run, real) for run in features])
    return estimate(per_run, reason="no interval, for resampling cases biases the Fréchet distance upwards")


def gap_closed(score: dict, baseline: dict, follow_up: dict) -> float | None:
    """Share of the way from the real baseline's score to the real follow-up's; None unless the latter is higher."""
    ends = score["mean"], baseline["mean"], follow_up["mean"]
    if None in ends or ends[2] <= ends[1]:
        return None
    return float((ends[0] - ends[1]) / (ends[2] - ends[1]))
