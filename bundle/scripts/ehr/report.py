"""The record as a short radiology report for the language model (section 3.3.1, Figure 4)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from scripts.ehr.features import FEATURES, RELATIVES, EHRError, validate


def radiology_report(ehr: Mapping[str, Any], interval_days: float | None = None) -> str:
    """The text that the language model reads (section 3.3.1, Figure 4).

    A missing feature is not mentioned, so "no emphysema" and "emphysema unknown" read differently. Lengths and ages
    are rounded to one decimal.

    Args:
        ehr: see :func:`scripts.ehr.validate`.
        interval_days: days from baseline to follow-up; written in whole months, below 60 days in days.

    Raises:
        EHRError: see :func:`scripts.ehr.validate`, or an interval that is not positive.

    Example:
        >>> print(radiology_report({"age": 62, "gender": 1, "sct_long_dia": 12, "sct_epi_loc": 1}, interval_days=365))
        62-year-old man. CT shows a nodule in the right upper lobe. Longest diameter 12 mm. Follow-up after 12 months.
    """
    known = validate(ehr)
    sentences = [_patient(known), _family(known), _nodule(known), _size(known), _interval(interval_days)]
    return " ".join(f"{sentence[0].upper()}{sentence[1:]}." for sentence in sentences if sentence)


def _patient(known: Mapping[str, float]) -> str:
    """Such as: 62-year-old man with emphysema."""
    age = f"{_number(known['age'])}-year-old " if "age" in known else ""
    person = {1.0: "man", 2.0: "woman"}.get(known.get("gender", 0.0), "patient")
    emphysema = {0.0: " without emphysema", 1.0: " with emphysema"}.get(known.get("diagemph", -1.0), "")
    return age + person + emphysema if age or emphysema or "gender" in known else ""


def _family(known: Mapping[str, float]) -> str:
    """Such as: family history of lung cancer in father, not in mother, brother, sister or child."""
    affected = [relative for name, relative in RELATIVES.items() if known.get(name) == 1]
    healthy = [relative for name, relative in RELATIVES.items() if known.get(name) == 0]
    if not affected:
        return f"no family history of lung cancer in {_list(healthy, 'or')}" if healthy else ""
    exceptions = f", not in {_list(healthy, 'or')}" if healthy else ""
    return f"family history of lung cancer in {_list(affected, 'and')}{exceptions}"


def _nodule(known: Mapping[str, float]) -> str:
    """Such as: CT shows a nodule of ground glass attenuation with spiculated margins in the right upper lobe."""
    words = {name: FEATURES[name].codes[int(known[name])] for name in known if FEATURES[name].kind == "category"}
    attenuation = f" of {words['sct_pre_att']} attenuation" if "sct_pre_att" in words else ""
    margins = f" with {words['sct_margins']} margins" if "sct_margins" in words else ""
    location = f" in the {words['sct_epi_loc']}" if "sct_epi_loc" in words else ""
    return f"CT shows a nodule{attenuation}{margins}{location}".replace("in the other location", "in another location")


def _size(known: Mapping[str, float]) -> str:
    """Such as: longest diameter 12 mm, perpendicular diameter 9 mm."""
    return ", ".join(
        f"{FEATURES[name].description} {_number(known[name])} mm"
        for name in ("sct_long_dia", "sct_perp_dia")
        if name in known
    )


DAYS_PER_MONTH = 30.4375
"""A twelfth of a Julian year."""


def interval_in_words(days: float) -> str:
    """An interval in whole months, below 60 days in days.

    >>> interval_in_words(365), interval_in_words(30)
    ('12 months', '30 days')
    """
    return f"{days / DAYS_PER_MONTH:.0f} months" if days >= 60 else f"{days:.0f} days"


def _interval(days: float | None) -> str:
    """Such as: follow-up after 12 months."""
    if days is None or math.isnan(days):
        return ""
    if not 0 < days < math.inf:
        raise EHRError(f"interval_days: {days} is not allowed; expected a positive number of days, or None.")
    return f"follow-up after {interval_in_words(days)}"


def interval_of(report: str) -> str:
    """What a report says of the interval, its last sentence; empty where it says nothing.

    >>> interval_of(radiology_report({"age": 62}, 365))
    'Follow-up after 12 months.'
    """
    last = report.rpartition(". ")[2]
    return last if last.startswith("Follow-up after ") else ""


def _number(value: float) -> str:
    """Rounded to one decimal; without decimals where that is zero."""
    return f"{value:.1f}".removesuffix(".0")


def _list(words: Sequence[str], conjunction: str) -> str:
    """Such as: a, b or c."""
    return f" {conjunction} ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
