import math

import pandas as pd
import pytest

from data_prep.contract import read_cohort
from data_prep.errors import DataError
from tests.data_prep.helpers import EHR, rows, write_table


@pytest.fixture
def folder(tmp_path):
    for name in ("a.nii.gz", "b.nii.gz", "m.nii.gz"):
        (tmp_path / name).touch()
    (tmp_path / "dicom").mkdir()
    return tmp_path


def faults(path):
    with pytest.raises(DataError) as caught:
        read_cohort(path)
    return str(caught.value)


def test_upper_case_names_and_missing_values(folder):
    table = pd.DataFrame([rows(diagemph=".M", sct_margins=9, fammother="")]).rename(columns=str.upper)
    table.to_csv(folder / "t.csv", index=False)
    row = read_cohort(folder / "t.csv").iloc[0]
    assert math.isnan(row.diagemph) and math.isnan(row.sct_margins) and math.isnan(row.fammother)
    assert row.age == 61.0 and row.patient_id == "P1" and math.isnan(row.x) and row.split is None


def test_parquet_reads_as_csv_does(folder):
    table = pd.DataFrame([rows(), rows(study_yr=1, image="b.nii.gz", malignant=1)])
    table.to_parquet(folder / "t.parquet")
    table.to_csv(folder / "t.csv", index=False)
    pd.testing.assert_frame_equal(read_cohort(folder / "t.parquet"), read_cohort(folder / "t.csv"))


def test_all_faults_at_once(folder):
    message = faults(
        write_table(
            folder,
            [
                rows(gender=5, split="training"),
                rows(study_yr=1, image="gone.nii.gz", age="old", split="test"),
                rows(patient_id="P 2", study_yr="first", image="dicom"),
                rows(patient_id="P3", x=1.0),
                rows(patient_id="P4", malignant=1, sct_pre_att=5),
                rows(patient_id="P4", study_yr=1, malignant=0, mask="none.nii.gz"),
                rows(patient_id="P5"),
                rows(patient_id="P5"),
                rows(patient_id="P6", image="a.jpg"),
            ],
        )
    )
    for words in (
        "row 2, column gender: '5': expected 1 (male), 2 (female)",
        "row 2, column split: expected one per patient; patient P1 is in several",
        "row 3, column image: 'gone.nii.gz': no such file",
        "row 3, column age: 'old'",
        "row 4, column patient_id: 'P 2'",
        "row 4, column study_yr: 'first'",
        "row 4, columns x, y, z",
        "row 5, columns x, y, z",
        "row 6, column sct_pre_att: '5'",
        "row 6, column malignant: expected one per nodule, one of patient P4 has both",
        "row 7, column mask: 'none.nii.gz'",
        "row 9, columns patient_id, nodule_id: expected one row per nodule and timepoint",
        "row 10, column image: 'a.jpg'",
    ):
        assert words in message, words


def test_missing_columns_are_named(folder):
    table = [{key: value for key, value in rows().items() if key not in ("diagemph", "famchild", "study_yr")}]
    message = faults(write_table(folder, table))
    assert message.startswith(f"{folder / 'cohort.csv'}: 3 faults")
    assert all(f"column {name}: missing" in message for name in ("diagemph", "famchild", "study_yr"))


def test_days_must_rise_with_years(folder):
    table = [rows(days_from_baseline=10), rows(study_yr=1, days_from_baseline=5)]
    assert "row 3, column days_from_baseline: expected to rise" in faults(write_table(folder, table))


def test_empty_cells_that_must_not_be(folder):
    message = faults(write_table(folder, [rows(patient_id=""), rows(nodule_id="2", study_yr="")]))
    assert "row 2, column patient_id: empty" in message
    assert "row 3, column study_yr or days_from_baseline: empty" in message


def test_no_table_no_rows_columns_twice(folder):
    assert "no such file" in faults(folder / "x.csv")
    pd.DataFrame(columns=[*rows()]).to_csv(folder / "e.csv", index=False)
    assert "no rows" in faults(folder / "e.csv")
    pd.DataFrame([rows(AGE=5)]).to_csv(folder / "d.csv", index=False)
    assert "column age: given twice, but for case" in faults(folder / "d.csv")


def test_nothing_is_opened_before_the_table_is_good(folder, monkeypatch):
    from data_prep import cohort
    from data_prep.images import crops

    monkeypatch.setattr(crops, "cut", lambda *_: pytest.fail("a pixel was read"))
    with pytest.raises(DataError):
        cohort.build(write_table(folder, [rows(gender=7)]), folder / "out")
    assert not (folder / "out").exists() and not (folder / ".partial-out").exists()


def test_many_faults_are_counted_and_cut_short(folder):
    message = faults(write_table(folder, [rows(patient_id=f"P{number}", age=500) for number in range(80)]))
    assert "80 faults" in message and "and 30 more" in message
    assert set(EHR) <= set(rows())
