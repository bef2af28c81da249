"""The same cases asked for several times of follow-up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scripts.data.datalist import DatalistError, inference_items
from scripts.data.intervals import at_intervals
from scripts.ehr.report import radiology_report


def test_each_case_comes_once_for_each_interval(tiny_dataset: Path) -> None:
    items = inference_items(tiny_dataset, "test", image_size=32)
    made = at_intervals(items, [730, 182])
    assert [each["case_id"] for each in made[:2]] == [f"{items[0]['case_id']}_{days}d" for days in (182, 730)]
    assert len(made) == 2 * len(items)
    for first, second, item in zip(made[::2], made[1::2], items, strict=True):
        assert (first["interval_days"], second["interval_days"]) == (182, 730)
        assert first["report"] == radiology_report(item["ehr"], 182) != second["report"]
        assert first["course"] == second["course"] == item["case_id"]
        assert first["image"] == item["image"] and first["ehr"] == item["ehr"]


def test_without_intervals_nothing_changes(tiny_dataset: Path) -> None:
    items = inference_items(tiny_dataset, "test", image_size=32)
    assert at_intervals(items, None) == items and at_intervals(items, None, report_interval=False) == items


@pytest.mark.parametrize(
    "intervals", [[], [0], [-365], [365, 365], [182.5], ["365"], [True], 365, "365", [float("nan")]]
)
def test_what_cannot_be_meant_is_refused(intervals: Any) -> None:
    with pytest.raises(DatalistError, match=r"expected days to the follow-up, each once, as \[182, 365, 730\]"):
        at_intervals([], intervals)


def test_weights_that_read_no_interval_are_not_asked_for_several() -> None:
    with pytest.raises(DatalistError, match="state no interval, so that all would be the same"):
        at_intervals([], [182, 365], report_interval=False)
