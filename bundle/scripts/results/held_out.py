"""How far methods can be trusted, by cases that they were not fitted on: AUROC, calibration, error of the growth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from scripts.arrays import Array
from scripts.data.datalist import outcome
from scripts.evaluation.nodules.forecasts import AXES
from scripts.evaluation.nodules.growth import Growth
from scripts.evaluation.statistics.calibration import log_odds_of, logistic_fit
from scripts.evaluation.statistics.forecasts import INTERVALS, Forecast, conformal_factor
from scripts.evaluation.statistics.metrics import classification, patient_resamples
from scripts.evaluation.statistics.thresholds import fixed_thresholds

EVENTS = 10
"""Cases of each outcome below which probabilities are not recalibrated, and no thresholds are fixed on them."""

Known = Mapping[str, float]
"""Probabilities by case id, of cases that the method was not fitted on."""


def score(known: Known, cases: Sequence[Mapping[str, Any]], on: str, resamples: int) -> dict[str, Any]:
    """The entry of a method in reference.json: ``calibration`` and ``held_out``.

    Args:
        known: probabilities of some of the cases.
        cases: entries of a datalist, with a known outcome.
        on: in words, which cases these are.
        resamples: of the bootstrap over patients.
    """
    used = [case for case in cases if case["case_id"] in known]
    labels, patients = np.array([outcome(case) for case in used]), [case["patient_id"] for case in used]
    values = np.array([known[case["case_id"]] for case in used])
    scores = classification(values[None], labels, patient_resamples(patients, labels, resamples, seed=0))["auroc"]
    held_out = {
        "auroc": None if scores["mean"] is None else round(scores["mean"], 4),
        "ci95": scores["ci95"] and [round(end, 4) for end in scores["ci95"]],
        **{"n": len(used), "n_patients": len(set(patients))},
        **{"n_malignant": int((labels == 1).sum()), "on": on},
    }
    if "reason" in scores:
        held_out["reason"] = scores["reason"]
    return {"calibration": recalibration(values, labels), "held_out": held_out}


def recalibration(values: Array, labels: Array) -> dict[str, float] | None:
    """Intercept and slope of the outcome's logistic regression on the log odds of probabilities (N,).

    Returns:
        None for fewer than :data:`EVENTS` cases of an outcome, where there is no finite solution, and where the slope
        is not positive, since probabilities would change their order.
    """
    if min((labels == 1).sum(), (labels == 0).sum()) < EVENTS:
        return None
    log_odds = log_odds_of(values)
    design = np.stack([np.ones_like(log_odds), log_odds], axis=1)
    intercept, slope = logistic_fit(design, np.zeros_like(log_odds), labels, np.ones((1, len(labels))))[0]
    if not np.isfinite(slope) or slope <= 0:
        return None
    return {"intercept": float(f"{intercept:.6g}"), "slope": float(f"{slope:.6g}")}


def thresholds(values: Array, labels: Array) -> dict[str, float]:
    """Thresholds of :func:`fixed_thresholds` that call the same cases (N,), each between two cases' probabilities.

    As they stand there, they are probabilities of single cases. Fewer than :data:`EVENTS` of an outcome give none.

    >>> thresholds(np.linspace(0.01, 0.8, 80), np.arange(80) >= 50)
    {'sensitive': 0.535, 'youden': 0.505}
    """
    if min((labels == 1).sum(), (labels == 0).sum()) < EVENTS:
        return {}
    found = {}
    for rule, limit in fixed_thresholds(values, labels).items():
        below = values[values < limit].max(initial=0.0)
        middle = (limit + below) / 2
        short = float(f"{middle:.4g}")
        found[rule] = short if below < short < limit else float(middle)
    return found


def compare(known: Mapping[str, Known], cases: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The entry `compared` of reference.json: each method's AUROC on the cases that all of them have."""
    shared = set.intersection(*(set(each) for each in known.values())) if known else set()
    used = [case for case in cases if case["case_id"] in shared]
    labels = np.array([outcome(case) for case in used])
    auroc = {}
    for name, each in known.items():
        values = np.array([[each[case["case_id"]] for case in used]])
        found = classification(values, labels, None)["auroc"]["mean"] if used else None
        if found is not None:
            auroc[name] = round(found, 4)
    return {"n": len(used), "n_malignant": int((labels == 1).sum()), "auroc": auroc}


def held_out_growth(growth: Growth, name: str, on: str) -> dict[str, Any] | None:
    """The entry `growth` of reference.json: how far the generated change of the mean diameter is from the real one.

    Args:
        growth: cases that no weights were fitted on, measured.
        name: of the generated images among what was measured.
        on: in words, which cases these are.

    Returns:
        ``error_mm``, the mean absolute error of the median over runs, which a case's result gives, and
        ``unchanged_error_mm``, that of predicting no change; ``factors``, of :func:`interval_factors`; ``n`` nodules of
        ``n_patients``; ``on``. None where no nodule can be measured.
    """
    real, generated = growth.changes(name)
    if len(real) == 0:
        return None
    errors = {
        "error_mm": np.abs(np.median(generated, axis=0) - real).mean(),
        "unchanged_error_mm": np.abs(real).mean(),
    }
    return {
        **{name: float(f"{value:.3g}") for name, value in errors.items()},
        "factors": interval_factors(growth, name),
        **{"n": len(real), "n_patients": len(set(growth.patients)), "on": on},
    }


def interval_factors(growth: Growth, name: str) -> dict[str, dict[str, float]]:
    """By diameter and interval, :func:`scripts.evaluation.statistics.forecasts.conformal_factor` of generated images.

    Args:
        growth, name: as of :func:`held_out_growth`.

    Returns:
        Intervals that runs do not reach, or patients are too few for, are left out.
    """
    use, patients = growth.measurable, growth.patients
    found: dict[str, dict[str, float]] = {}
    for axis in AXES:
        forecast = Forecast(getattr(growth.measured[name], axis)[:, use])
        truth = getattr(growth.after["measured"], axis)[0, use]
        known = {
            each: conformal_factor(forecast, truth, patients, each)
            for each in INTERVALS
            if forecast.reaches(each) is None
        }
        found[axis] = {each: float(f"{factor:.4g}") for each, factor in known.items() if factor is not None}
    return found
