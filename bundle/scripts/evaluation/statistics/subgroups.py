"""AUROC within subgroups, with counts and intervals.

N is the number of cases and B of bootstrap resamples.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scripts.arrays import Array
from scripts.ehr.features import ATTENUATION
from scripts.evaluation.statistics.folds import too_few
from scripts.evaluation.statistics.metrics import classification, undefined

Mask = NDArray[np.bool_]

EVENTS = 100
"""Malignant, and benign, cases below which an evaluation is warned of (Vergouwe et al. 2005; Collins et al. 2016)."""

FEWEST = 5
"""Patients with a malignant, and with a benign, case, below which a subgroup has no AUROC."""

LIMITS: dict[str, tuple[str, tuple[float, ...], str]] = {
    "age": ("age", (60.0, 70.0), "years"),
    "size": ("sct_long_dia", (8.0, 15.0), "mm"),
    "spacing": ("spacing", (0.6, 0.75), "mm"),
}
"""Numbers that divide the cases: name of the value, limits that belong to the group above, unit."""

CODES: dict[str, tuple[str, dict[float, str]]] = {
    "sex": ("gender", {1.0: "men", 2.0: "women"}),
    "attenuation": ("sct_pre_att", {float(code): name for code, name in ATTENUATION.items()}),
}
"""Codes that divide the cases: name of the feature, and titles."""

UNKNOWN = "not known"


def members_of(records: Sequence[Mapping[str, float]], spacing: Array | None = None) -> dict[str, dict[str, Mask]]:
    """Masks (N,) of the cases of each subgroup that occurs, by what divides them; every case is in one of each.

    Args:
        records: N, of :func:`scripts.ehr.validate`.
        spacing: mm between pixels of the baseline (N,), the larger one.

    Example:
        >>> members_of([{"gender": 1}, {}])["sex"]
        {'men': array([ True, False]), 'not known': array([False,  True])}
    """
    places = np.full(len(records), np.nan) if spacing is None else spacing

    def value(name: str) -> Array:
        return places if name == "spacing" else np.array([record.get(name, np.nan) for record in records])

    groups: dict[str, dict[str, Mask]] = {}
    for title, (name, codes) in CODES.items():
        groups[title] = {words: value(name) == code for code, words in codes.items()}
    for title, (name, limits, unit) in LIMITS.items():
        groups[title] = _between(value(name), limits, unit)
    for title, name in {title: given[0] for title, given in (CODES | LIMITS).items()}.items():
        groups[title][UNKNOWN] = ~np.isfinite(value(name))
    order = ("sex", "age", "size", "attenuation", "spacing")
    return {title: {name: mask for name, mask in groups[title].items() if mask.any()} for title in order}


def _between(values: Array, limits: tuple[float, ...], unit: str) -> dict[str, Mask]:
    """Masks of the values below the first limit, between two, and from the last one on."""
    ends = (-np.inf, *limits, np.inf)
    titles = [
        f"under {limits[0]:g} {unit}",
        *(f"{low:g} to {high:g} {unit}" for low, high in zip(limits, limits[1:], strict=False)),
        f"{limits[-1]:g} {unit} or more",
    ]
    return {title: (values >= low) & (values < high) for title, low, high in zip(titles, ends, ends[1:], strict=False)}


def subgroup(
    mask: Mask, probabilities: Mapping[str, Array], labels: Array, patients: Sequence[Hashable], weights: Array | None
) -> dict[str, Any]:
    """Counts of a subgroup, and by method its AUROC as `estimate` or `undefined` gives it.

    Args:
        mask: (N,).
        probabilities: by name of the method, (N,).
        labels: (N,), 0, 1 or NaN.
        patients: N.
        weights: (B, N) of `patient_resamples`; in resamples, subgroups vary in size.
    """
    own = [patient for patient, inside in zip(patients, mask, strict=True) if inside]
    inside = labels[mask]
    counts = {
        "n_cases": int(mask.sum()),
        "n_patients": len(set(own)),
        "n_malignant": int((inside == 1).sum()),
        "n_benign": int((inside == 0).sum()),
    }
    if reason := too_few(own, inside, FEWEST):
        return counts | {"auroc": dict.fromkeys(probabilities, undefined(reason))}
    drawn = None if weights is None else weights[:, mask]
    scores = {
        name: classification(values[None, mask], inside, drawn)["auroc"] for name, values in probabilities.items()
    }
    return counts | {"auroc": scores}


def events_warning(labels: Array) -> str | None:
    """A sentence where outcomes are fewer than `EVENTS` of either kind; None where there are enough."""
    malignant, benign = int((labels == 1).sum()), int((labels == 0).sum())
    if min(malignant, benign) >= EVENTS:
        return None
    return (
        f"{malignant} cases are known to be malignant and {benign} to be benign; under {EVENTS} of either, every "
        "number here is uncertain, those of calibration and subgroups most"
    )
