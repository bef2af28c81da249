"""The empty cohort table, and the tables of its columns that people read."""

import pandas as pd
import pytest

from data_prep.contract import cohort_schema, read_cohort
from data_prep.errors import DataError
from data_prep.schema import COLUMNS, TRUTH
from data_prep.template import features, write
from scripts.ehr.features import FEATURES
from tests.data_prep.helpers import rows


def test_the_columns_are_those_of_the_contract(tmp_path):
    write(tmp_path / "cohort.csv")
    header = (tmp_path / "cohort.csv").read_text().strip().split(",")
    assert header == list(COLUMNS)
    checked = cohort_schema(tmp_path, frozenset(COLUMNS)).columns
    assert set(checked) == set(COLUMNS) - {"simulated", "source", "licence"} | set(TRUTH)
    needed = {name for name, column in COLUMNS.items() if column.needed == "yes"}
    assert needed == {name for name, column in checked.items() if column.required} - {"study_yr", "days_from_baseline"}


def test_a_row_that_is_filled_in_is_read(tmp_path):
    write(tmp_path / "cohort.csv")
    (tmp_path / "a.nii.gz").touch()
    table = pd.read_csv(tmp_path / "cohort.csv")
    assert table.empty
    pd.concat([table, pd.DataFrame([rows(sct_margins=9)])]).to_csv(tmp_path / "cohort.csv", index=False)
    read = read_cohort(tmp_path / "cohort.csv")
    assert len(read) == 1 and read["age"][0] == 61 and read["sct_margins"].isna().all()


def test_examples_are_marked_and_cannot_become_data(tmp_path):
    write(tmp_path / "cohort.csv", example=True)
    table = pd.read_csv(tmp_path / "cohort.csv")
    assert len(table) == 2 and table["source"].str.startswith("EXAMPLE").all()
    for name in table["image"]:
        with pytest.raises(DataError, match="no such file"):
            read_cohort(tmp_path / "cohort.csv")
        (tmp_path / name).touch()
    assert len(read_cohort(tmp_path / "cohort.csv")) == 2, "nothing but the images is wrong with them"


def test_a_table_that_is_there_is_not_replaced(tmp_path):
    (tmp_path / "cohort.csv").write_text("mine")
    with pytest.raises(DataError, match="exists and is not replaced"):
        write(tmp_path / "cohort.csv")
    assert (tmp_path / "cohort.csv").read_text() == "mine"


def test_the_features_are_told_with_codes_units_ranges_and_unknowns(call, tmp_path):
    told = {row[0]: row for row in features()}
    assert list(told) == list(FEATURES)
    assert told["sct_margins"][2:] == ("1 spiculated, 2 smooth, 3 poorly defined", "", "9")
    assert told["sct_long_dia"][2:] == ("0.5 to 300", "mm", "")
    code, shown = call("template", tmp_path / "cohort.csv")
    assert code == 0 and all(name in shown.out for name in FEATURES) and "1 spiculated" in shown.out
