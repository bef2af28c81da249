"""The paper's four metrics (section 4.1.2) and the kernel distance, per run, with confidence intervals over patients.

Throughout, R is the number of runs, N of cases and B of bootstrap resamples.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from scripts.arrays import Array


def ordered_pairs(probabilities: Array, labels: Array) -> Array:
    """Mann and Whitney's kernel: 1 where a malignant case is above a benign one, 0.5 at a tie; (malignant, benign).

    Args:
        probabilities: (N,).
        labels: (N,), 0 or 1.
    """
    difference = probabilities[labels == 1][:, None] - probabilities[labels == 0][None, :]
    return (difference > 0) + 0.5 * (difference == 0)


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
    positive, negative = weights[:, labels == 1], weights[:, labels == 0]
    areas = [((positive @ ordered_pairs(run, labels)) * negative).sum(axis=1) for run in probabilities]
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


def kernel_pairs(first: Array, second: Array) -> Array:
    """Terms (N, N) of the kernel distance: k(x_i, x_j) + k(y_i, y_j) - k(x_i, y_j) - k(x_j, y_i).

    k is the cubic kernel of KID, k(a, b) = (a . b / D + 1)^3 (Binkowski et al. 2018, "Demystifying MMD GANs").

    Args:
        first, second: (N, D), features x and y of the same N cases.
    """

    def kernel(a: Array, b: Array) -> Array:
        return (a @ b.T / a.shape[1] + 1) ** 3

    cross = kernel(first, second)
    return kernel(first, first) + kernel(second, second) - cross - cross.T


def kernel_distance(pairs: Array, patients: Sequence[Hashable], weights: Array | None = None) -> Array:
    """KID, the unbiased squared maximum mean discrepancy: the mean of `kernel_pairs` over pairs of different patients.

    This is the U-statistic of Gretton et al. 2012 (Eq. 4; `u-statistic` in Binkowski's own code). The more common
    estimator also takes k(x_i, y_i) into the cross term, as if x_i and y_i were independent. Here y_i is the follow-up
    of the case that x_i was generated for, which pulls that estimator below zero: far, where N is a few hundred. For
    the same reason pairs of cases of one patient are left out. It may come out slightly negative, as any unbiased
    estimator of something that can be zero.

    Args:
        pairs: (N, N), of `kernel_pairs`.
        patients: N, at least two of them different.
        weights: (B, N), how often each case counts; one row of ones by default.

    Returns:
        (B,); NaN where a resample holds one patient only.
    """
    weights = np.ones((1, len(pairs))) if weights is None else weights
    names = np.array([str(patient) for patient in patients])
    apart = (names[:, None] != names[None, :]).astype(np.float64)
    with np.errstate(invalid="ignore"):
        return ((weights @ (pairs * apart)) * weights).sum(axis=1) / ((weights @ apart) * weights).sum(axis=1)


def patient_resamples(
    patients: Sequence[Hashable], labels: Array, resamples: int, seed: int, stratified: bool = True
) -> Array | None:
    """Bootstrap weights (B, N): patients are drawn with replacement and bring all their cases along.

    Cases of one patient are not independent, so drawing cases would make intervals too narrow. Patients with a
    malignant case and patients without are drawn apart where `stratified`, so that every resample has as many of each
    as the study; that takes the share of malignant patients as given. Patients without any known outcome are always
    drawn apart, so that leaving their cases out leaves the bootstrap of the others.

    Args:
        patients: N, the patient of each case.
        labels: (N,), 0, 1 or NaN.

    Returns:
        None where that says nothing of how patients differ, for a single one would be drawn again and again.
    """
    unique, index = np.unique([str(patient) for patient in patients], return_inverse=True)
    outcome = np.full(len(unique), np.nan)
    np.fmax.at(outcome, index, labels)  # the highest label of each patient, NaN where none is known
    known = np.isfinite(outcome)
    strata = [outcome == 1, outcome == 0] if stratified else [known]
    if len(unique) < 2 or any(members.sum() == 1 for members in strata):
        return None
    generator = np.random.default_rng(seed)
    drawn = np.empty((resamples, len(unique)))
    for members in (*strata, ~known):
        if count := int(members.sum()):
            drawn[:, members] = generator.multinomial(count, np.full(count, 1 / count), size=resamples)
    return drawn[:, index]


def estimate(per_run: Array, resampled: Array | None = None, reason: str | None = None) -> dict[str, Any]:
    """Summary of a metric as it stands in metrics.json.

    Args:
        per_run: (R,).
        resampled: (B,), the mean over runs in each bootstrap resample, NaN where undefined.
        reason: why there is no interval.

    Returns:
        `mean` over runs, sample standard deviation `std` over runs (null for one run; how far seeds differ, not a
        sampling error), `ci95` over patients (2.5th and 97.5th percentile of the bootstrap, the runs as they are), and
        `reason` where something is null that might be expected.
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


def why_undefined(labels: Array) -> str | None:
    """Why nothing can be said of outcomes (N,), 0, 1 or NaN; None where both are known of some case."""
    known = labels[np.isfinite(labels)]
    if len(known) == 0:
        return "no case has a known outcome"
    if len(np.unique(known)) < 2:
        return f"all cases with a known outcome are {'malignant' if known[0] == 1 else 'benign'}"
    return None


def classification(probabilities: Array, labels: Array, weights: Array | None) -> dict[str, dict[str, Any]]:
    """AUROC and AUPRC of (R, N) probabilities over the cases whose outcome is known (labels not NaN).

    Args:
        weights: (B, N) of `patient_resamples`, or None.

    Returns:
        `{"auroc": ..., "auprc": ...}`, each as `estimate` or `undefined` give it.
    """
    if reason := why_undefined(labels):
        return dict.fromkeys(("auroc", "auprc"), undefined(reason))
    known = np.isfinite(labels)
    labels, probabilities = labels[known], probabilities[:, known]
    scores = {}
    for name, metric in (("auroc", auroc), ("auprc", auprc)):
        resampled = None if weights is None else metric(probabilities, labels, weights[:, known]).mean(axis=0)
        scores[name] = estimate(metric(probabilities, labels)[:, 0], resampled)
    return scores


def similarity(distances: Array, weights: Array | None) -> dict[str, Any]:
    """Mean of perceptual distances (R, N), with weights (B, N) of `patient_resamples`, as `estimate` gives it."""
    resampled = None if weights is None else weighted_mean(distances, weights).mean(axis=0)
    return estimate(distances.mean(axis=1), resampled)


def fid(features: Array, real: Array) -> dict[str, Any]:
    """Fréchet distance of the features (R, N, D) of each run to those of real images (M, D)."""
    if features.shape[1] < 2 or len(real) < 2:
        return undefined("not defined for fewer than two cases")
    per_run = np.array([frechet_distance(run, real) for run in features])
    return estimate(per_run, reason="no interval, for resampling cases biases the Fréchet distance upwards")


def kid(features: Array, real: Array, patients: Sequence[Hashable], weights: Array | None) -> dict[str, Any]:
    """Kernel distance of the features (R, N, D) of each run to those (N, D) of the real images of the same cases."""
    if len(set(patients)) < 2:
        return undefined("not defined for fewer than two patients")
    pairs = [kernel_pairs(run, real) for run in features]
    per_run = np.concatenate([kernel_distance(run, patients) for run in pairs])
    # the distance is linear in the pairs, so that of their mean is the mean over runs
    resampled = None if weights is None else kernel_distance(np.mean(pairs, axis=0), patients, weights)
    return estimate(per_run, resampled)


def gap_closed(score: dict, baseline: dict, follow_up: dict) -> float | None:
    """Share of the way from the real baseline's score to the real follow-up's; None unless the latter is higher."""
    ends = score["mean"], baseline["mean"], follow_up["mean"]
    if None in ends or ends[2] <= ends[1]:
        return None
    return float((ends[0] - ends[1]) / (ends[2] - ends[1]))
