"""What records may say and yet rarely do: another unit, one column for another, a nodule that changes sides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.schema import LISTS, SECTIONS
from scripts.ehr.features import SIDES
from scripts.errors import listed

LEAST_MM = 3.0
"""Median of the longest diameters; trials follow nodules of 4 mm or more."""

DAYS = (100, 1000)
"""Median from a time to the next; NLST's screens are 159 to 649 days apart."""

SIDE = {code: side for side, codes in SIDES.items() for code in codes}


def unlikely(datalist: Mapping[str, Any]) -> list[str]:
    """What is worth a look in the records of a datalist, a line each: NLST's own readers differ, so it is no fault."""
    cases = [case for section in LISTS for case in datalist.get(section, [])]
    pairs = [case for section in SECTIONS for case in datalist.get(section, [])]
    records = {case.get("baseline", case.get("image")): case.get("ehr") or {} for case in cases}
    records = {case.get("follow_up"): case.get("follow_up_attributes") or {} for case in pairs} | records
    return _diameters(records) + _intervals(pairs) + _sides(pairs)


def _numbers(rows: list[Mapping[str, Any]], name: str) -> NDArray[np.float64]:
    """A fact of each row, NaN where it is not known."""
    values = [row.get(name) for row in rows]
    return np.array([value if isinstance(value, int | float) else np.nan for value in values], dtype=float)


def _diameters(records: Mapping[Any, Mapping[str, Any]]) -> list[str]:
    """Centimetres, and the perpendicular diameter for the longest."""
    long, across = (_numbers([*records.values()], name) for name in ("sct_long_dia", "sct_perp_dia"))
    known, notes = long[np.isfinite(long)], []
    if known.size and (median := np.median(known)) < LEAST_MM:
        notes.append(f"the median of {known.size} longest diameters is {median:.2g} mm, as if in cm: expected mm.")
    if odd := [str(crop) for crop, wrong in zip(records, across > long, strict=True) if wrong]:
        both = np.isfinite(long + across).sum()
        notes.append(
            f"in {len(odd)} of {both} records the perpendicular diameter is above the longest, as if exchanged "
            f"({listed(odd)})."
        )
    return notes


def _intervals(pairs: list[Mapping[str, Any]]) -> list[str]:
    """Weeks or months for days, or days counted otherwise."""
    days = _numbers(pairs, "interval_days")
    days = days[np.isfinite(days)]
    if not days.size or DAYS[0] <= (median := np.median(days)) <= DAYS[1]:
        return []
    unit = ", as if in weeks or months" if median < DAYS[0] else ""
    return [
        f"the median interval of {days.size} pairs is {median:.0f} days{unit}: expected some {DAYS[0]} to {DAYS[1]}, "
        "in days."
    ]


def _sides(pairs: list[Mapping[str, Any]]) -> list[str]:
    """Nodules that are in one lung first and in the other later."""
    lobes = [
        _numbers([case.get(key) or {} for case in pairs], "sct_epi_loc") for key in ("ehr", "follow_up_attributes")
    ]
    sides = [(SIDE.get(first), SIDE.get(second)) for first, second in zip(*lobes, strict=True)]
    odd = [
        str(case.get("case_id"))
        for case, both in zip(pairs, sides, strict=True)
        if None not in both and len({*both}) > 1
    ]
    text = (
        f"in {len(odd)} of {len(pairs)} pairs the nodule is in one lung first and in the other later ({listed(odd)})."
    )
    return [text] if odd else []
