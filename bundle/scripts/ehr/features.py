"""The 13 features of the record (EHR; Appendix C, Table 2 of the paper): codes, ranges, checks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, Literal

from scripts.errors import UserError

MISSING = frozenset({"", ".", ".m", ".n", ".s", "na", "n/a", "nan", "nat", "none", "null", "<na>"})
"""Spellings of "no value" in tables, among them SAS's special missing values; upper and lower case are the same."""


LONGEST = 64
"""Characters of a value or name that are read or repeated, and names of a record; none that is good has more."""


class EHRError(UserError):
    """An EHR with unknown names, unknown codes or values out of range; the message lists every fault, one per line."""


@dataclass(frozen=True)
class Feature:
    """One EHR feature.

    Attributes:
        name: column of NLST's tables, in lower case.
        description: name in words, for forms and documentation.
        kind: ``continuous``, ``category`` or ``binary``.
        codes: NLST's codes and their meaning; empty for continuous features.
        unknown: codes that mean "not determined"; they count as missing.
        minimum, maximum: range of a continuous value, inclusive, in ``unit``.
        unit: of a continuous value.
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
        try:
            number = math.nan if _is_missing(value) else float(value)
        except (TypeError, ValueError, OverflowError):
            raise EHRError(f"{self.name}: {_shown(value)} is not a number; expected {self.expected}.") from None
        if math.isnan(number) or number in self.unknown:
            return None
        if self.codes and number not in self.codes or not self.minimum <= number <= self.maximum:
            raise EHRError(f"{self.name}: {number:g} is not allowed; expected {self.expected}.")
        return number

    @property
    def expected(self) -> str:
        """The allowed values in words, for messages and forms."""
        if not self.codes:
            return f"{self.minimum:g} to {self.maximum:g} {self.unit}"
        unknown = [f"{code} (not determined)" for code in sorted(self.unknown)]
        return ", ".join([f"{code} ({words})" for code, words in self.codes.items()] + unknown)


def _is_missing(value: Any) -> bool:
    """Whether a value is a spelling of "no value".

    Raises:
        TypeError: a container, whose text could be of any length and depth.
        ValueError: a longer text than any number's.
    """
    if isinstance(value, (Mapping, Sequence, Set)) and not isinstance(value, str):
        raise TypeError("a container")
    text = str(value)
    if len(text) > LONGEST:
        raise ValueError("a long text")
    return text.strip().lower() in MISSING


def _shown(value: Any) -> str:
    """A value in a message, in one line: of a long one its beginning, of a container its type."""
    if isinstance(value, (Mapping, Sequence, Set)) and not isinstance(value, str):
        return f"a {type(value).__name__}"
    try:
        text = repr(value)
    except ValueError:  # a whole number of thousands of digits
        return "a long number"
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


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

SIDES = {"right": (1, 2, 3), "left": (4, 5, 6)}
"""Codes of ``sct_epi_loc`` by lung."""

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
"""The 13 features by name, in the paper's order, with NLST's codes (its data dictionary)."""

EHR_FEATURES: tuple[str, ...] = tuple(FEATURES)
"""The names of the 13 features."""

NODULE_ATTRIBUTES: tuple[str, ...] = EHR_FEATURES[:5]
"""The five features of the nodule, with which the latent space is aligned (section 3.2.1)."""


def validate(ehr: Mapping[str, Any]) -> dict[str, float]:
    """Checks an EHR and drops what is missing.

    Args:
        ehr: values by name of the feature, in upper or lower case. None, NaN, :data:`MISSING` and codes for "not
            determined" count as missing, as does a name that is left out.

    Returns:
        The known features, lower case, in the paper's order, as numbers.

    Raises:
        EHRError: unknown names, unknown codes, values out of range; one message lists them all.

    Example:
        >>> validate({"AGE": 62, "gender": 1, "sct_margins": 9, "sct_long_dia": "12.5"})
        {'sct_long_dia': 12.5, 'age': 62.0, 'gender': 1.0}
    """
    if len(ehr) > LONGEST:
        raise EHRError(f"record: {len(ehr)} names; expected some of the {len(EHR_FEATURES)} features.")
    known: dict[str, float] = {}
    faults: list[str] = []
    for key, value in ehr.items():
        name = str(key).strip().lower()
        if name not in FEATURES:
            shown = _shown(str(key)).strip("'")
            faults.append(f"{shown}: no EHR feature; expected {', '.join(EHR_FEATURES)}.")
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
