"""The record as numbers: what the alignment loss sees, and what a regression reads."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given

from scripts.ehr.encoding import attributes, record_encoder, record_numbers, records
from scripts.ehr.features import NODULE_ATTRIBUTES
from tests.bundle.ehr.records import FULL, any_record


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
