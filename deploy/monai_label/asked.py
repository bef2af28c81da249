"""What may be asked of MONAI Label: a point, a record, an interval and a number of runs; within bounds."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from data_prep.cutting import Centre
from scripts.ehr.features import validate
from scripts.ehr.report import radiology_report
from scripts.errors import UserError, listed

DEFAULTS: dict[str, Any] = {"point": "0,0,0", "record": "{}", "interval_days": 365, "num_runs": 20}
"""What is asked for, as clients show it in their forms."""

MOST_RUNS = 100

LARGEST = 1 << 14
"""Characters of all that is asked."""

IMAGE_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}")
"""How an image may be called: no path."""


class AskedError(UserError):
    """Something that cannot be asked."""


@dataclass(frozen=True)
class Asked:
    """One inference.

    Attributes:
        point: the nodule's centre, mm, LPS.
        record: see :func:`scripts.ehr.features.validate`.
        interval_days: from the scan to the follow-up.
        num_runs: follow-ups to generate.
    """

    point: Centre
    record: Mapping[str, float]
    interval_days: float
    num_runs: int


def parse(text: str) -> dict[str, Any]:
    """The object that a client sent as ``params``.

    Raises:
        AskedError: it is none, or too long.
    """
    try:
        content = json.loads(text) if len(text) <= LARGEST else None
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise AskedError(f"params: expected a JSON object of at most {LARGEST} characters.")
    return content


def read(params: Mapping[str, Any]) -> Asked:
    """What is asked, from its values, by key; clients send a point and a record as text too, as forms have them.

    Raises:
        AskedError: a key that is none of :data:`DEFAULTS`, or a value that is none of its kind.
        EHRError: what is wrong with the record.
    """
    if unknown := params.keys() - DEFAULTS.keys():
        raise AskedError(f"{len(unknown)} unknown parameters; expected {', '.join(DEFAULTS)}.")
    if missing := {"point", "record"} - params.keys():
        raise AskedError(f"{listed(sorted(missing))} missing.")
    point, record = (parse_text(params[key]) for key in ("point", "record"))
    if not isinstance(point, list) or len(point) != 3 or not all(_is_number(each) for each in point):
        raise AskedError("point: expected x, y, z in mm, LPS as in DICOM.")
    if not isinstance(record, dict):
        raise AskedError("record: expected a JSON object of the features.")
    days = params.get("interval_days", DEFAULTS["interval_days"])
    if not _is_number(days) or days < 1:
        raise AskedError("interval_days: expected a number of days, 1 or more.")
    known = validate(record)
    radiology_report(known, days)
    runs = params.get("num_runs", DEFAULTS["num_runs"])
    if not isinstance(runs, int) or isinstance(runs, bool) or not 1 <= runs <= MOST_RUNS:
        raise AskedError(f"num_runs: expected a whole number from 1 to {MOST_RUNS}.")
    return Asked((float(point[0]), float(point[1]), float(point[2])), known, float(days), runs)


def parse_text(value: Any) -> Any:
    """A value that may be given as text: JSON, or numbers with commas between."""
    if not isinstance(value, str):
        return value
    for text in (value, f"[{value}]"):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            continue
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e6
