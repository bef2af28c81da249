"""The record's features: what is accepted and what is refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from scripts.ehr.features import EHR_FEATURES, MISSING, NODULE_ATTRIBUTES, EHRError, validate
from tests.bundle.ehr.records import FULL, any_record


def test_features_are_the_papers() -> None:
    assert tuple(FULL) == EHR_FEATURES and len(EHR_FEATURES) == 13
    assert all(name.startswith("sct_") for name in NODULE_ATTRIBUTES) and len(NODULE_ATTRIBUTES) == 5


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


HOSTILE = {
    "a text of a megabyte": "x" * 1_000_000,
    "a number of a megabyte": "9" * 1_000_000,
    "a whole number that Python does not print": 10**5000,
    "a whole number beyond floats": 10**400,
    "containers": [[[1]]],
    "a mapping": {"age": {"age": 61}},
    "bytes": b"61",
    "two lines": "61\n\x1b[31mall is well",
}


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
def test_values_of_any_size_and_kind_are_one_short_line(value: Any) -> None:
    with pytest.raises(EHRError, match="^age: ") as error:
        validate({"age": value})
    assert len(str(error.value)) < 200 and str(error.value).isprintable()


def test_nesting_is_not_followed() -> None:
    deep: Any = 61
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(EHRError, match="a list is not a number"):
        validate({"age": deep})
    while isinstance(deep, list):  # freed level by level, since Python would recurse
        deep = deep[0]


def test_names_of_any_size_and_number_are_short_lines() -> None:
    with pytest.raises(EHRError) as error:
        validate({"x" * 1_000_000 + "\n": 1})
    assert len(str(error.value)) < 400 and str(error.value).isprintable()
    with pytest.raises(EHRError, match="^record: 1000 names"):
        validate({f"name {number}": 1 for number in range(1000)})


def test_given_twice() -> None:
    assert validate({"age": 60, "AGE": 60}) == {"age": 60}
    with pytest.raises(EHRError, match="age: given twice, as 60 and 61"):
        validate({"age": 60, "AGE": 61})
