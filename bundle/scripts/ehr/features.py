"""The 13 EHR features (Appendix C, Table 2): codes, checks, the report for the language model, and numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from scripts.errors import UserError

MISSING = frozenset({"", ".", ".m", ".n", ".s", "na", "n/a", "nan", "nat", "none", "null", "<na>"})
"""What tables write for "no value", SAS's special missing values among them; compared without regard to case."""


Array = NDArray[np.floating[Any]]


class EHRError(UserError):
    """An EHR that breaks its contract; the message lists every fault, one a line."""


@dataclass(frozen=True)
class Feature:
    """One EHR feature.

    Attributes:
        name: the column, in the trial's spelling and lower case.
        description: for people.
        kind: ``continuous``, ``category`` or ``binary``.
        codes: the trial's codes and their words; empty for continuous features.
        unknown: codes that mean "not determined"; they count as missing.
        minimum, maximum: what a continuous value may be, inclusive, in ``unit``.
        unit: of a continuous feature.
    """

    name: str
    description: str
    kind: Literal["continuous", "category", "binary"]
    codes: Mapping[int, str] = field(default_factory=dict)
    unknown: frozenset[int] = frozenset()
    minimum: float = -math.inf
    maximum: float = math.inf
    unit: str = ""

    def read(self, value: Any) -> float | None:
        """The value as a number, None where it is missing or not determined.

        Raises:
            EHRError: neither a number nor a missing value, an unknown code, or out of range.
        """
        if str(value).strip().lower() in MISSING:
            return None
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise EHRError(f"{self.name}: {value!r} is not a number; expected {self.expected}.") from None
        if math.isnan(number) or number in self.unknown:
            return None
        if self.codes and number not in self.codes or not self.minimum <= number <= self.maximum:
            raise EHRError(f"{self.name}: {value} is not allowed; expected {self.expected}.")
        return number

    @property
    def expected(self) -> str:
        """What a value may be, for messages and forms."""
        if not self.codes:
            return f"{self.minimum:g} to {self.maximum:g} {self.unit}"
        unknown = [f"{code} (not determined)" for code in sorted(self.unknown)]
        return ", ".join([f"{code} ({words})" for code, words in self.codes.items()] + unknown)


NO_YES = {0: "no", 1: "yes"}
ATTENUATION = {1: "soft tissue", 2: "ground glass", 3: "part-solid", 4: "fluid", 6: "fat", 7: "other"}
MARGINS = {1: "spiculated", 2: "smooth", 3: "poorly defined"}
LOCATION = {
    1: "right upper lobe",
    2: "right middle lobe",
    3: "right lower lobe",
    4: "left upper lobe",
    5: "lingula",
    6: "left lower lobe",
    8: "other location",
}
RELATIVES = {f"fam{relative}": relative for relative in ("father", "mother", "brother", "sister", "child")}

FEATURES: dict[str, Feature] = {
    feature.name: feature
    for feature in (
        Feature("sct_pre_att", "predominant attenuation", "category", ATTENUATION, frozenset({9})),
        Feature("sct_epi_loc", "location in the lung", "category", LOCATION),
        Feature("sct_long_dia", "longest diameter", "continuous", minimum=0.5, maximum=300.0, unit="mm"),
        Feature("sct_perp_dia", "perpendicular diameter", "continuous", minimum=0.5, maximum=300.0, unit="mm"),
        Feature("sct_margins", "margins", "category", MARGINS, frozenset({9})),
        Feature("age", "age", "continuous", minimum=18.0, maximum=120.0, unit="years"),
        Feature("diagemph", "emphysema diagnosed", "binary", NO_YES),
        Feature("gender", "gender", "binary", {1: "male", 2: "female"}),
        *(Feature(name, f"lung cancer, {relative}", "binary", NO_YES) for name, relative in RELATIVES.items()),
    )
}
"""The 13 features in the paper's order, with the trial's codes (NLST data dictionary)."""

EHR_FEATURES: tuple[str, ...] = tuple(FEATURES)
"""Their names."""

NODULE_ATTRIBUTES: tuple[str, ...] = EHR_FEATURES[:5]
"""The five that describe the nodule; the latent space is aligned with them (Section 3.2.1)."""


def validate(ehr: Mapping[str, Any]) -> dict[str, float]:
    """Checks an EHR and drops what is missing.

    Args:
        ehr: features by name, upper or lower case; None, NaN, SAS's missing values and codes for "not determined"
            count as missing, as does a name that is left out.

    Returns:
        The known features, lower case, in the paper's order, as numbers.

    Raises:
        EHRError: unknown names, unknown codes, values out of range: all of them in one message.
    """
    known: dict[str, float] = {}
    faults: list[str] = []
    for key, value in ehr.items():
        name = str(key).strip().lower()
        if name not in FEATURES:
            faults.append(f"{key}: no EHR feature; expected {', '.join(EHR_FEATURES)}.")
            continue
        try:
            number = FEATURES[name].read(value)
        except EHRError as error:
            faults.append(str(error))
            continue
        if number is not None and known.setdefault(name, number) != number:
            faults.append(f"{name}: given twice, as {known[name]:g} and {number:g}; keep one.")
    if faults:
        raise EHRError("\n".join(faults))
    return {name: known[name] for name in EHR_FEATURES if name in known}


def report(ehr: Mapping[str, Any], interval_days: float | None = None) -> str:
    """Writes an EHR as a short radiology report (Section 3.3.1, Figure 4).

    A missing feature is not mentioned, so "no emphysema" and "emphysema unknown" read differently. Lengths and ages
    are written to one decimal: finer than that nothing is measured.

    Args:
        ehr: see :func:`validate`.
        interval_days: from baseline to follow-up; written in whole months, below two months in days.

    Raises:
        EHRError: see :func:`validate`, or an interval that is not positive.
    """
    known = validate(ehr)
    sentences = [_patient(known), _family(known), _nodule(known), _size(known), _interval(interval_days)]
    return " ".join(f"{sentence[0].upper()}{sentence[1:]}." for sentence in sentences if sentence)


def _patient(known: Mapping[str, float]) -> str:
    """62-year-old man with emphysema"""
    age = f"{_number(known['age'])}-year-old " if "age" in known else ""
    person = {1.0: "man", 2.0: "woman"}.get(known.get("gender", 0.0), "patient")
    emphysema = {0.0: " without emphysema", 1.0: " with emphysema"}.get(known.get("diagemph", -1.0), "")
    return age + person + emphysema if age or emphysema or "gender" in known else ""


def _family(known: Mapping[str, float]) -> str:
    """family history of lung cancer in father, not in mother, brother, sister or child"""
    affected = [relative for name, relative in RELATIVES.items() if known.get(name) == 1]
    healthy = [relative for name, relative in RELATIVES.items() if known.get(name) == 0]
    if not affected:
        return f"no family history of lung cancer in {_list(healthy, 'or')}" if healthy else ""
    exceptions = f", not in {_list(healthy, 'or')}" if healthy else ""
    return f"family history of lung cancer in {_list(affected, 'and')}{exceptions}"


def _nodule(known: Mapping[str, float]) -> str:
    """CT shows a nodule of ground glass attenuation with spiculated margins in the right upper lobe"""
    words = {name: FEATURES[name].codes[int(known[name])] for name in known if FEATURES[name].kind == "category"}
    attenuation = f" of {words['sct_pre_att']} attenuation" if "sct_pre_att" in words else ""
    margins = f" with {words['sct_margins']} margins" if "sct_margins" in words else ""
    location = f" in the {words['sct_epi_loc']}" if "sct_epi_loc" in words else ""
    return f"CT shows a nodule{attenuation}{margins}{location}".replace("in the other location", "in another location")


def _size(known: Mapping[str, float]) -> str:
    """longest diameter 12 mm, perpendicular diameter 9 mm"""
    return ", ".join(
        f"{FEATURES[name].description} {_number(known[name])} mm"
        for name in ("sct_long_dia", "sct_perp_dia")
        if name in known
    )


def _interval(days: float | None) -> str:
    """follow-up after 12 months"""
    if days is None or math.isnan(days):
        return ""
    if not 0 < days < math.inf:
        raise EHRError(f"interval_days: {days} is not allowed; expected a positive number of days, or None.")
    return f"follow-up after {days / 30.4375:.0f} months" if days >= 60 else f"follow-up after {days:.0f} days"


def _number(value: float) -> str:
    """To one decimal, none where it is zero."""
    return f"{value:.1f}".removesuffix(".0")


def _list(words: Sequence[str], conjunction: str) -> str:
    """a, b or c"""
    return f" {conjunction} ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


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
    gaps = SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)
    return make_pipeline(FunctionTransformer(function), gaps, StandardScaler())


def record_numbers(cases: Sequence[Mapping[str, Any]]) -> Array:
    """All that the reports of some cases say, as numbers (N, F) without gaps.

    That is :func:`record_encoder`'s, fitted on these cases, and the logarithm of the interval in days.
    """
    days = np.array([[case.get("interval_days") or math.nan] for case in cases], dtype=float)
    return np.hstack([record_encoder().fit_transform(records(cases)), _scaled(np.log).fit_transform(days)])
