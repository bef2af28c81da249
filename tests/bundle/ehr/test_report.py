"""The report in words."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.ehr.features import EHR_FEATURES, EHRError
from scripts.ehr.report import radiology_report
from tests.bundle.ehr.records import FULL, any_record, full_records, values


def test_full_report() -> None:
    assert radiology_report(FULL, 365) == (
        "62-year-old man with emphysema. "
        "Family history of lung cancer in father and brother, not in mother, sister or child. "
        "CT shows a nodule of soft tissue attenuation with spiculated margins in the right upper lobe. "
        "Longest diameter 12 mm, perpendicular diameter 9.5 mm. "
        "Follow-up after 12 months."
    )


@pytest.mark.parametrize(
    ("ehr", "expected"),
    [
        ({}, "CT shows a nodule."),
        ({"gender": 2}, "Woman. CT shows a nodule."),
        ({"age": 80}, "80-year-old patient. CT shows a nodule."),
        ({"diagemph": 0}, "Patient without emphysema. CT shows a nodule."),
        ({"famchild": 0}, "No family history of lung cancer in child. CT shows a nodule."),
        ({"famchild": 1}, "Family history of lung cancer in child. CT shows a nodule."),
        ({"sct_epi_loc": 5}, "CT shows a nodule in the lingula."),
        ({"sct_epi_loc": 8}, "CT shows a nodule in another location."),
        ({"sct_perp_dia": 4}, "CT shows a nodule. Perpendicular diameter 4 mm."),
    ],
)
def test_partial_reports(ehr: dict[str, int], expected: str) -> None:
    assert radiology_report(ehr) == expected


@pytest.mark.parametrize(
    ("days", "words"), [(365, "12 months"), (183.0, "6 months"), (30, "30 days"), (60, "2 months")]
)
def test_interval(days: float, words: str) -> None:
    assert radiology_report(FULL, days).endswith(f" Follow-up after {words}.")


@pytest.mark.parametrize("days", [0, -5, math.inf])
def test_interval_must_be_positive(days: float) -> None:
    with pytest.raises(EHRError, match="interval_days"):
        radiology_report(FULL, days)


def test_unknown_interval_is_not_mentioned() -> None:
    assert radiology_report(FULL) == radiology_report(FULL, math.nan)


@given(any_record)
def test_any_subset_reads_well(record: dict[str, float]) -> None:
    text = radiology_report(record, 365).lower()
    assert not any(word in text for word in ("nan", "none", "  ", " .", ",.", "missing"))
    assert text.endswith("follow-up after 12 months.")


@given(full_records, st.sampled_from(EHR_FEATURES), st.data())
def test_changing_any_feature_changes_the_text(record: dict[str, float], name: str, data: st.DataObject) -> None:
    other = data.draw(values(name).filter(lambda value: value != record[name]))
    texts = {
        radiology_report(record),
        radiology_report(record | {name: other}),
        radiology_report({k: v for k, v in record.items() if k != name}),
    }
    assert len(texts) == 3


@given(any_record, any_record)
def test_distinct_records_have_distinct_texts(first: dict[str, float], second: dict[str, float]) -> None:
    assert (radiology_report(first) == radiology_report(second)) == (first == second)
