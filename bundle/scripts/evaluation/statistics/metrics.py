"""AUROC, AUPRC, LPIPS and FID (section 4.1.2) and KID, per run, with confidence intervals over patients.

Throughout, R is the number of runs, N of cases and B of bootstrap resamples.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from scripts.arrays import Array


def ordered_pairs(probabilities: Array, labels: Array) -> Array:
    """Mann and Whitney's kernel of each malignant and benign case: 1 where the malignant one is higher, 0.5 at a tie.

    Args:
        probabilities: (N,).
        labels: (N,), 0 or 1.

    Returns:
        (malignant cases, benign cases).
    """
    difference = probabilities[labels == 1][:, None] - probabilities[labels == 0][None, :]
    return (difference > 0) + 0.5 * (difference == 0)


def auroc(probabilities: Array, labels: Array, weights: Array | None = None) -> Array:
    """Area under the ROC curve: the share of (malignant, benign) pairs in the right order, ties counted half.

    It equals `sklearn.metrics.roc_auc_score`, computed for all resamples and runs together.

    Args:
        probabilities: (R, N).
        labels: (N,), 0 or 1.
        weights: (B, N), how often each case counts; one row of ones by default.

    Returns:
        (R, B); NaN where a resample lacks one of the outcomes.

    Example:
        >>> auroc(np.array([[0.1, 0.4, 0.35, 0.8]]), np.array([0, 0, 1, 1]))
        array([[0.75]])
    """
    weights = np.ones((1, len(labels))) if weights is None else weights
    positive, negative = weights[:, labels == 1], weights[:, labels == 0]
    areas = [((positive @ ordered_pairs(run, labels)) * negative).sum(axis=1) for run in probabilities]
    with np.errstate(invalid="ignore"):
        return np.stack(areas) / (positive.sum(axis=1) * negative.sum(axis=1))


def auprc(probabilities: Array, labels: Array, weights: Array | None = None) -> Array:
    """Average precision: the mean, over malignant cases, of the precision at that case's probability.

    It equals `sklearn.metrics.average_precision_score`. Arguments and result are as in `auroc`.
    """
    weights = np.ones((1, len(labels))) if weights is None else weights
    malignant = labels == 1
    positive = weights[:, malignant]
    averages = []
    for run in probabilities:
        called = (run[None, :] >= run[malignant][:, None]).astype(np.float64)
        # 0 / 0 where a resample has no case above a threshold; the malignant case there has weight 0 too
        with np.errstate(invalid="ignore"):
            precision = (positive @ called[:, malignant].T) / (weights @ called.T)
        averages.append(np.where(positive > 0, positive * precision, 0.0).sum(axis=1))
    with np.errstate(invalid="ignore"):
        return np.stack(averages) / positive.sum(axis=1)


SCORES = {"auroc": auroc, "auprc": auprc}
"""Scores of probabilities against outcomes, by their keys in metrics.json."""


def weighted_mean(values: Array, weights: Array | None = None) -> Array:
    """Mean over cases of `values` (R, N) with `weights` (B, N), as (R, B); NaN where a resample has none of them."""
    weights = np.ones((1, values.shape[1])) if weights is None else weights
    with np.errstate(invalid="ignore"):
        return values @ (weights / weights.sum(axis=1, keepdims=True)).T


def frechet_distance(first: Array, second: Array) -> float:
    """Fréchet distance between the Gaussians of two sets of features (Heusel et al. 2017).

    |m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2). With S = A^T A, where A holds the centred features over
    sqrt(n - 1), the last trace is the sum of the singular values of A1 A2^T. That needs no matrix square root, and is
    accurate with fewer cases than features. A QR decomposition first reduces A to at most D rows.

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


def cubic_kernel(first: Array, second: Array) -> Array:
    """The kernel of KID, k(a, b) = (a . b / D + 1)^3 (Binkowski et al. 2018, "Demystifying MMD GANs").

    Args:
        first, second: (N1, D) and (N2, D).

    Returns:
        (N1, N2).
    """
    return (first @ second.T / first.shape[1] + 1) ** 3


def kernel_pairs(first: Array, second: Array) -> Array:
    """Terms (N, N) of the kernel distance: k(x_i, x_j) + k(y_i, y_j) - k(x_i, y_j) - k(x_j, y_i).

    Args:
        first, second: (N, D), features x and y of the same N cases.
    """
    cross = cubic_kernel(first, second)
    return cubic_kernel(first, first) + cubic_kernel(second, second) - cross - cross.T


def kernel_distance(pairs: Array, patients: Sequence[Hashable], weights: Array | None = None) -> Array:
    """KID, the unbiased squared maximum mean discrepancy: the mean of `kernel_pairs` over pairs of different patients.

    This is the U-statistic of Gretton et al. 2012 (Eq. 4; `u-statistic` in Binkowski's code). The more common estimator
    includes k(x_i, y_i) in the cross term, assuming that x_i and y_i are independent. Here y_i is the follow-up of the
    case that x_i was generated for, so that estimator would be biased downwards. For the same reason pairs of cases of
    one patient are left out. Like any unbiased estimator of a quantity that can be zero, it may be slightly negative.

    Args:
        pairs: (N, N), of `kernel_pairs`.
        patients: N, at least two of them different.
        weights: (B, N), how often each case counts; one row of ones by default.

    Returns:
        (B,); NaN where a resample has one patient only.
    """
    weights = np.ones((1, len(pairs))) if weights is None else weights
    names = np.array([str(patient) for patient in patients])
    apart = (names[:, None] != names[None, :]).astype(np.float64)
    with np.errstate(invalid="ignore"):
        return ((weights @ (pairs * apart)) * weights).sum(axis=1) / ((weights @ apart) * weights).sum(axis=1)


def patient_resamples(
    patients: Sequence[Hashable], labels: Array, resamples: int, seed: int, stratified: bool = True
) -> Array | None:
    """Bootstrap weights (B, N): patients are drawn with replacement, each with all of its cases.

    Cases of one patient are not independent, so drawing cases would make intervals too narrow. With `stratified`,
    patients with a malignant case and those without are drawn separately, so that every resample has as many of each as
    the study; the share of malignant patients is then taken as given. Patients without any known outcome are always
    drawn separately, so that the bootstrap of the other patients does not depend on them. Who is drawn from alone is in
    every resample once, see :func:`varied`.

    Args:
        patients: N, the patient of each case.
        labels: (N,), 0, 1 or NaN.
        resamples: B.
        seed: of the draws.
        stratified: see above.

    Returns:
        None where there is no bootstrap, since all patients are drawn from alone.

    Example:
        >>> weights = patient_resamples(["a", "a", "b", "c", "d"], np.array([1, 0, 1, 0, 0]), resamples=100, seed=0)
        >>> weights.shape, bool((weights[:, 0] == weights[:, 1]).all())
        ((100, 5), True)
    """
    unique, index = np.unique([str(patient) for patient in patients], return_inverse=True)
    outcome = np.full(len(unique), np.nan)
    np.fmax.at(outcome, index, labels)  # the highest label of each patient, NaN where none is known
    known = np.isfinite(outcome)
    strata = [*([outcome == 1, outcome == 0] if stratified else [known]), ~known]
    if max(members.sum() for members in strata) < 2:
        return None
    generator = np.random.default_rng(seed)
    drawn = np.empty((resamples, len(unique)))
    for members in strata:
        if count := int(members.sum()):
            drawn[:, members] = generator.multinomial(count, np.full(count, 1 / count), size=resamples)
    return drawn[:, index]


def several(weights: Array | None) -> Array | None:
    """The weights (B, n), of `patient_resamples`, of the cases that a score rests on; None where it has no interval.

    That is so without resamples, and where the cases are a single patient's, who is in a resample or is not, but is
    never another. Cases of a patient are known by their weights, which are the same in every resample.
    """
    return weights if weights is not None and (weights != weights[:, :1]).any() else None


def varied(weights: Array | None, labels: Array) -> Array | None:
    """The weights (B, n) of the cases whose outcome is known; None where a score of both outcomes has no interval.

    That is so without resamples, where the cases of an outcome are a single patient's (see :func:`several`), and where
    resamples do not vary a patient, who was drawn from alone.

    Args:
        weights: (B, N) of `patient_resamples`, stratified or not.
        labels: (N,), 0, 1 or NaN.
    """
    if weights is None:
        return None
    groups = [weights[:, labels == outcome] for outcome in (0, 1) if (labels == outcome).any()]
    drawn = weights[:, np.isfinite(labels)]
    return drawn if np.ptp(drawn, axis=0).all() and all(several(group) is not None for group in groups) else None


def estimate(per_run: Array, resampled: Array | None = None, reason: str | None = None) -> dict[str, Any]:
    """Summary of a metric for metrics.json.

    Args:
        per_run: (R,).
        resampled: (B,), the mean over runs in each bootstrap resample, NaN where undefined.
        reason: why there is no interval.

    Returns:
        `mean` over runs; `std`, the standard deviation over runs (None for one run), which measures how seeds differ
        and is no sampling error; `ci95` over patients, the 2.5th and 97.5th percentile of the bootstrap with the runs
        fixed; and, where there is no interval, or none that is finite, `reason`.
    """
    result: dict[str, Any] = {
        "mean": float(np.mean(per_run)),
        "std": float(np.std(per_run, ddof=1)) if len(per_run) > 1 else None,
        "ci95": None,
    }
    known = np.empty(0) if resampled is None else resampled[~np.isnan(resampled)]
    if np.isinf(known).any():
        result["reason"] = "no interval, for it is infinite in some resamples"
    elif len(known) > 1:
        result["ci95"] = [float(bound) for bound in np.percentile(known, [2.5, 97.5])]
    else:
        result["reason"] = reason or "no interval, for there are too few patients"
    return result


def side(ci95: Sequence[float]) -> int:
    """On which side of zero an interval lies: 1 above, -1 below, 0 where it holds zero.

    >>> side([0.1, 0.3]), side([-0.3, -0.1]), side([0.0, 0.2])
    (1, -1, 0)
    """
    low, high = ci95
    return int(low > 0) - int(high < 0)


def undefined(reason: str) -> dict[str, Any]:
    """The summary, as of `estimate`, of a metric that cannot be computed."""
    return {"mean": None, "std": None, "ci95": None, "reason": reason}


def why_undefined(labels: Array) -> str | None:
    """Why metrics of outcomes (N,), 0, 1 or NaN, are undefined; None where both outcomes occur."""
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
        return dict.fromkeys(SCORES, undefined(reason))
    known = np.isfinite(labels)
    labels, probabilities, drawn = labels[known], probabilities[:, known], varied(weights, labels)
    scores = {}
    for name, metric in SCORES.items():
        resampled = None if drawn is None else metric(probabilities, labels, drawn).mean(axis=0)
        scores[name] = estimate(metric(probabilities, labels)[:, 0], resampled)
    return scores


def similarity(distances: Array, weights: Array | None) -> dict[str, Any]:
    """The `estimate` of the mean of distances, or other values, (R, N), with weights (B, N) of `patient_resamples`.

    Cases of a single patient have no interval, see :func:`several`.
    """
    drawn = several(weights)
    return estimate(distances.mean(axis=1), None if drawn is None else weighted_mean(distances, drawn).mean(axis=0))


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
    # the distance is linear in the pairs, so the distance of their mean is the mean of distances
    resampled = None if weights is None else kernel_distance(np.mean(pairs, axis=0), patients, weights)
    return estimate(per_run, resampled)


def gap(baseline: Array, follow_up: Array, labels: Array, weights: Array | None) -> dict[str, dict[str, Any]]:
    """The gap of AUROC and AUPRC: the real follow-ups' less that of the real baselines, paired, as `estimate` has it.

    Args:
        baseline, follow_up: probabilities (N,).
        labels: (N,), 0, 1 or NaN.
        weights: (B, N) of `patient_resamples`.
    """
    if reason := why_undefined(labels):
        return dict.fromkeys(SCORES, undefined(reason))
    known = np.isfinite(labels)
    both, labels, drawn = np.stack([follow_up, baseline])[:, known], labels[known], varied(weights, labels)
    return {
        name: estimate(
            np.subtract(*metric(both, labels)), None if drawn is None else np.subtract(*metric(both, labels, drawn))
        )
        for name, metric in SCORES.items()
    }


def gap_closed(score: dict, baseline: dict, gap: dict) -> float | None:
    """The share of a gap, of :func:`gap`, that lies between the real baseline's score and a method's.

    None unless the whole interval of the gap is above zero: of a gap that may be none there is no share.
    """
    if None in (score["mean"], baseline["mean"], gap["ci95"]) or side(gap["ci95"]) <= 0:
        return None
    return float((score["mean"] - baseline["mean"]) / gap["mean"])
