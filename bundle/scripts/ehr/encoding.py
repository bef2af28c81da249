"""The record as numbers: a vector of nodule attributes for the alignment loss, and inputs of regressions."""

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
"""Mean and standard deviation of log(diameter in mm), constants rounded from the nodules of LIDC-IDRI."""

SIZE_SCALE = math.sqrt(8.0)
"""Factor of the standardised diameters, see :func:`attributes`."""

CODE_SCALE = 2.0
"""Factor of the one-hot codes, see :func:`attributes`."""


def attributes(ehr: Mapping[str, Any], metric: str = "standardised") -> list[float]:
    """The nodule's attributes as a vector f whose distances the latents are to follow (Eq. 2, tau_f = 16).

    ``raw`` is the authors' encoding: five numbers, namely diameters in mm and codes as they are, missing margins as 3.
    Large nodules then dominate the distances, and the lingula (code 5) is nearer to the left lower lobe (6) than to the
    right upper lobe (1).

    ``standardised`` compares diameters by their ratio, and codes by whether they are equal. It holds the logarithms of
    both diameters in standard deviations, times sqrt(8), and each code one-hot, times 2. At tau_f = 16 a nodule with
    both diameters larger by one standard deviation (a factor of 1.65) has a similarity of exp(-1), and each code that
    differs multiplies it by exp(-1/2). All constants are fixed, so vectors of different datasets can be compared. A
    missing code is the zero vector, whose squared distance to every code is half of that between two codes; a missing
    diameter is set to as many standard deviations as the other.

    Args:
        ehr: see :func:`validate`; features of the patient are ignored.
        metric: ``raw`` or ``standardised``.

    Returns:
        5 numbers (raw) or 18 (standardised). All are NaN where both diameters are missing or, with ``raw``, any
        attribute but the margins; the loss leaves such samples out.

    Raises:
        EHRError: see :func:`validate`.
        ValueError: another metric.

    Example:
        >>> attributes({"sct_long_dia": 12, "sct_perp_dia": 9, "sct_pre_att": 2, "sct_epi_loc": 4}, metric="raw")
        [2.0, 4.0, 12.0, 9.0, 3.0]
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
    """The values as they are or, where one of them is NaN, NaN for each of them."""
    values = list(values)
    return [math.nan] * len(values) if any(map(math.isnan, values)) else values


def records(cases: Sequence[Mapping[str, Any]]) -> Array:
    """The 13 features at baseline of N entries of a datalist, as (N, 13) in the paper's order; NaN: unknown."""
    known = [validate(case["ehr"]) for case in cases]
    return np.array([[record.get(name, math.nan) for name in EHR_FEATURES] for record in known]).reshape(-1, 13)


def record_encoder() -> ColumnTransformer:
    """An unfitted scikit-learn transformer from :func:`records` (N, 13) to numbers without gaps (N, F).

    Age and the logarithms of the diameters are scaled to mean 0 and variance 1 over the records that it is fitted on.
    A missing number becomes their median, and a feature with gaps there gets an indicator column. Codes are one-hot,
    with "unknown" as one more code.
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
    """A pipeline: the function, the median for gaps with an indicator column, mean 0 and variance 1."""
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    gaps = SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)
    return make_pipeline(FunctionTransformer(function), gaps, StandardScaler())


def record_numbers(cases: Sequence[Mapping[str, Any]]) -> Array:
    """Everything that the reports of N cases state, as numbers (N, F) without gaps.

    The columns are those of :func:`record_encoder`, fitted on these cases, and the logarithm of the interval in days.
    """
    days = np.array([[case.get("interval_days") or math.nan] for case in cases], dtype=float)
    return np.hstack([record_encoder().fit_transform(records(cases)), _scaled(np.log).fit_transform(days)])
