"""The same cases asked for several times of follow-up."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from scripts.data.datalist import DatalistError
from scripts.ehr.report import radiology_report


def at_intervals(
    items: Sequence[dict[str, Any]], intervals: Sequence[float] | None, report_interval: bool = True
) -> list[dict[str, Any]]:
    """Items of :func:`scripts.data.inference_items`, each once for every interval in place of its own.

    Args:
        intervals: days from baseline to follow-up; None leaves the items as they are.
        report_interval: whether the weights' reports state the interval.

    Returns:
        Items as they were but for ``report`` and ``interval_days``; ``case_id`` ends in the days, as ``_182d``, and
        ``course`` is the case's own.

    Raises:
        DatalistError: an interval is no positive whole number or comes twice, or the weights read none.

    Example:
        >>> item = {"case_id": "a", "image": "a.nii.gz", "report": "", "ehr": {"age": 62}, "interval_days": 365}
        >>> for each in at_intervals([item], [182, 730]):
        ...     print(each["case_id"], "|", each["report"])
        a_182d | 62-year-old patient. CT shows a nodule. Follow-up after 6 months.
        a_730d | 62-year-old patient. CT shows a nodule. Follow-up after 24 months.
    """
    if intervals is None:
        return list(items)
    if not report_interval:
        raise DatalistError(
            "--intervals: these weights were trained on reports that state no interval, so that all would be the same. "
            "Leave it out, or train with report_interval."
        )
    days = [*intervals] if isinstance(intervals, Sequence) and not isinstance(intervals, str) else []
    if not days or not all(map(_is_days, days)) or len(set(days)) < len(days):
        raise DatalistError(
            f"--intervals {intervals}: expected days to the follow-up, each once, as [182, 365, 730]; whole numbers "
            "from 1."
        )
    return [_at(item, int(each)) for item in items for each in sorted(days)]


def _is_days(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return math.isfinite(value) and value >= 1 and value == int(value)


def _at(item: Mapping[str, Any], days: int) -> dict[str, Any]:
    """One item for one interval."""
    return {
        **item,
        "case_id": f"{item['case_id']}_{days}d",
        "report": radiology_report(item["ehr"], days),
        "interval_days": days,
        "course": item["case_id"],
    }
