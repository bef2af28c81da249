"""The record as numbers: distances between nodules, and inputs of a regression."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from scripts.arrays import Array
from scripts.ehr.features import EHR_FEATURES, FEATURES, NODULE_ATTRIBUTES, validate

if TYPE_CHECKING:
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import Pipeline

LOG_DIAMETER = {"sct_long_dia": (math.log(10.0), 0.5), "sct_perp_dia": (math.log(7.8), 0.5)}
"""Mean and standard deviation of log(mm): a fixed yardstick, rounded from nodules of LIDC-IDRI."""

SIZE_SCALE = math.sqrt(8.0)

CODE_SCALE = 2.0


def attributes(ehr: Mapping[str, Any], metric: str = "standardised") -> list[float]:
    """The nodule's attributes as a point whose distances the latents follow (f in Eq. 2, tau_f = 16).

    ``raw`` reproduces the authors: five numbers, codes as they are and millimetres, missing margins as 3. Distances
    are then ruled by the large nodules, and a lingula (5) is nearer to a left lower lobe (6) than to a right one.

    ``standardised`` takes what a reader would call similar: ratios of diameters, and codes that are equal or not.
    It has the logarithms of both diameters in standard deviations, times sqrt(8), and each code one-hot, times 2. So
    at tau_f = 16 a nodule one standard deviation (a factor of 1.65) larger has a similarity of exp(-1), and each
    other code costs exp(-1/2). No number comes from the dataset at hand: batches, runs and sites compare. A missing
    code is the zero vector, half as far from every code as they are from each other; a missing diameter is
    taken to be as many standard deviations large as the other.

    Args:
        ehr: see :func:`validate`; the features of the patient may be there and are not used.
        metric: ``raw`` or ``standardised``.

    Returns:
        5 numbers (raw) or 18 (standardised); all NaN where the nodule cannot be placed: without any diameter, or in
        ``raw`` with anything but the margins missing. The loss leaves such samples out.

    Raises:
        EHRError: see :func:`validate`.
        ValueError: another metric.
    """
    known = validate(ehr)
    if metric == "raw":
        return _all_or_none(known.get(name, 3.0 if name == "sct_margins" else math.nan) for name in NODULE_ATTRIBUTES)
    if metric != "standardised":
        raise ValueError(f"metric: {metric!r} is not known; expected raw or standardised.")
    sizes = {name: (math.log(known[name]) - mean) / sd for name, (mean, sd) in LOG_DIAMETER.items() if name in known}
    typical = sum(sizes.values()) / len(sizes) if sizes else math.nan
    diameters = [SIZE_SCALE * sizes.get(name, typical) for name in LOG_DIAMETER]
    codes = [CODE_SCALE * (known.get(name) == code) for name in NODULE_ATTRIBUTES for code in FEATURES[name].codes]
    return _all_or_none([*diameters, *codes])


def _all_or_none(values: Iterable[float]) -> list[float]:
    """The values, or as many NaN where one of them is NaN."""
    values = list(values)
    return [math.nan] * len(values) if any(map(math.isnan, values)) else values


def records(cases: Sequence[Mapping[str, Any]]) -> Array:
    """The 13 EHR features at baseline, in their order, as (N, 13), NaN where unknown."""
    known = [validate(case["ehr"]) for case in cases]
    return np.array([[record.get(name, math.nan) for name in EHR_FEATURES] for record in known]).reshape(-1, 13)


def record_encoder() -> ColumnTransformer:
    """From records (N, 13) to numbers without gaps.

    Diameters as logarithms, and age, are scaled to mean 0 and variance 1 of what it was fitted on; an unknown one is
    the median, and where the fitted records have gaps, a column says so. Codes are one-hot, "unknown" being one.
    """
    from sklearn.compose import ColumnTransformer
    from sklearn.preprocessing import OneHotEncoder

    columns = {name: index for index, name in enumerate(EHR_FEATURES)}
    codes = {columns[name]: [*feature.codes, math.nan] for name, feature in FEATURES.items() if feature.codes}
    return ColumnTransformer(
        [
            ("diameters", _scaled(np.log), [columns[name] for name in LOG_DIAMETER]),
            ("age", _scaled(), [columns["age"]]),
            ("codes", OneHotEncoder(categories=list(codes.values()), sparse_output=False), list(codes)),
        ]
    )


def _scaled(function: Callable[[Array], Array] | None = None) -> Pipeline:
    """The function's values, gaps filled, to mean 0 and variance 1."""
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    gaps = SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)
    return make_pipeline(FunctionTransformer(function), gaps, StandardScaler())


def record_numbers(cases: Sequence[Mapping[str, Any]]) -> Array:
    """All that the reports of some cases say, as numbers (N, F) without gaps.

    That is :func:`record_encoder`'s, fitted on these cases, and the logarithm of the interval in days.
    """
    days = np.array([[case.get("interval_days") or math.nan] for case in cases], dtype=float)
    return np.hstack([record_encoder().fit_transform(records(cases)), _scaled(np.log).fit_transform(days)])
