"""The EHR: what is accepted, what the report says, and what the alignment loss sees."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.ehr.encoding import attributes, record_encoder, record_numbers, records
from scripts.ehr.features import EHR_FEATURES, FEATURES, MISSING, NODULE_ATTRIBUTES, EHRError, validate
from scripts.ehr.report import radiology_report

FULL = {
    "sct_pre_att": 1,
    "sct_epi_loc": 1,
    "sct_long_dia": 12,
    "sct_perp_dia": 9.5,
    "sct_margins": 1,
    "age": 62,
    "diagemph": 1,
    "gender": 1,
    "famfather": 1,
    "fammother": 0,
    "fambrother": 1,
    "famsister": 0,
    "famchild": 0,
}


def values(name: str) -> st.SearchStrategy[float]:
    """Every allowed value of a feature; continuous ones to the decimal that a report keeps."""
    feature = FEATURES[name]
    if feature.codes:
        return st.sampled_from([float(code) for code in feature.codes])
    tenths = st.integers(round(10 * feature.minimum), round(10 * feature.maximum))
    return tenths.map(lambda tenth: tenth / 10)


any_record = st.fixed_dictionaries({}, optional={name: values(name) for name in EHR_FEATURES})
full_records = st.fixed_dictionaries({name: values(name) for name in EHR_FEATURES})


def test_features_are_the_papers() -> None:
    assert tuple(FULL) == EHR_FEATURES and len(EHR_FEATURES) == 13
    assert all(name.startswith("sct_") for name in NODULE_ATTRIBUTES) and len(NODULE_ATTRIBUTES) == 5


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


@given(any_record)
def test_validate_keeps_what_is_valid(record: dict[str, float]) -> None:
    assert validate(record) == record
    assert validate({name.upper(): str(value) for name, value in record.items()}) == record
    assert list(validate(record)) == [name for name in EHR_FEATURES if name in record]


@pytest.mark.parametrize("value", [None, math.nan, np.float32("nan"), *sorted(MISSING), ".M", " NaN "])
def test_missing_values_are_dropped(value: Any) -> None:
    assert validate(dict.fromkeys(EHR_FEATURES, value)) == {}


def test_undetermined_is_missing() -> None:
    assert validate({"sct_pre_att": 9, "sct_margins": "9"}) == {}


def test_every_fault_is_reported_at_once() -> None:
    ehr = {
        "SCT_MARGINS": 5,
        "age": 7,
        "gender": "m",
        "smoker": 1,
        "Age": 200,
        "famfather": 0.5,
        "sct_long_dia": math.inf,
    }
    with pytest.raises(EHRError) as error:
        validate(ehr)
    lines = str(error.value).splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "sct_margins", "age", "gender", "smoker", "age", "famfather", "sct_long_dia"
    ]  # fmt: skip
    assert "1 (spiculated), 2 (smooth), 3 (poorly defined), 9 (not determined)" in lines[0]
    assert "18 to 120 years" in lines[1]


def test_given_twice() -> None:
    assert validate({"age": 60, "AGE": 60}) == {"age": 60}
    with pytest.raises(EHRError, match="age: given twice, as 60 and 61"):
        validate({"age": 60, "AGE": 61})


def test_raw_attributes_are_the_authors() -> None:
    assert attributes(FULL, "raw") == [1, 1, 12, 9.5, 1]
    assert attributes(FULL | {"sct_margins": None}, "raw")[-1] == 3
    assert all(map(math.isnan, attributes(FULL | {"sct_epi_loc": None}, "raw")))


@pytest.mark.parametrize("metric", ["raw", "standardised"])
def test_no_size_no_attributes(metric: str) -> None:
    for ehr in ({}, {"age": 60}, {"sct_pre_att": 1, "sct_epi_loc": 2, "sct_margins": 1}):
        assert all(map(math.isnan, attributes(ehr, metric)))


def test_unknown_metric() -> None:
    with pytest.raises(ValueError, match="expected raw or standardised"):
        attributes(FULL, "cosine")


def squared_distance(first: dict[str, Any], second: dict[str, Any]) -> float:
    return sum((a - b) ** 2 for a, b in zip(attributes(first), attributes(second), strict=True))


def test_standardised_distances_have_their_documented_meaning() -> None:
    larger = FULL | {name: FULL[name] * math.exp(0.5) for name in ("sct_long_dia", "sct_perp_dia")}
    assert squared_distance(FULL, larger) == pytest.approx(16.0)
    for name in ("sct_pre_att", "sct_epi_loc", "sct_margins"):
        assert squared_distance(FULL, FULL | {name: 3}) == pytest.approx(8.0)
        assert squared_distance(FULL, FULL | {name: None}) == pytest.approx(4.0)


def test_standardised_ignores_the_patient() -> None:
    assert attributes(FULL) == attributes({name: FULL[name] for name in NODULE_ATTRIBUTES})


def test_a_missing_diameter_follows_the_other() -> None:
    one, both = {"sct_long_dia": 10.0}, {"sct_long_dia": 10.0, "sct_perp_dia": 7.8}
    assert attributes(one) == pytest.approx(attributes(both))


@given(any_record)
def test_attributes_are_whole_or_absent(record: dict[str, float]) -> None:
    for metric, length in (("raw", 5), ("standardised", 18)):
        vector = attributes(record, metric)
        assert len(vector) == length and len(set(map(math.isfinite, vector))) == 1


def test_records_as_numbers_have_no_gaps_even_where_training_knew_nothing() -> None:
    blank, full = np.full((3, 13), np.nan), records([{"ehr": {"sct_long_dia": 9, "sct_margins": 2}}])
    encoded = record_encoder().fit(blank).transform(np.concatenate([blank, full]))
    assert np.isfinite(encoded).all()
    encoded = record_encoder().fit(full).transform(blank)
    assert np.isfinite(encoded).all()


def test_record_numbers_hold_the_record_and_the_interval_without_gaps() -> None:
    """Against the encoder and pandas; an interval unknown is the median's, and a column says so."""
    known = [{"sct_long_dia": 9.0, "age": 61.0}, {"sct_long_dia": 12.0}, {"sct_long_dia": 20.0, "age": 55.0}]
    days = [365, None, 30]
    cases = [{"ehr": ehr, "interval_days": each} for ehr, each in zip(known, days, strict=True)]
    found = record_numbers(cases)
    encoded = record_encoder().fit_transform(records(cases))
    logs = pd.Series(days, dtype=float).pipe(np.log)
    filled = logs.fillna(logs.median())
    np.testing.assert_allclose(found[:, :-2], encoded)
    np.testing.assert_allclose(found[:, -2], (filled - filled.mean()) / filled.std(ddof=0))
    np.testing.assert_allclose(found[:, -1], (np.array([0, 1, 0]) - 1 / 3) / np.std([0, 1, 0]))
    assert np.isfinite(record_numbers([{"ehr": {}}, {"ehr": {"age": 60}}])).all()
