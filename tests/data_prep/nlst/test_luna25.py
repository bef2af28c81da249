"""LUNA25's annotations as findings; what cannot be right in them is refused by row."""

import pandas as pd
import pytest

from data_prep.errors import DataError
from data_prep.nlst import coordinates

ROW = {
    "PatientID": 100012,
    "SeriesInstanceUID": "1.2.3",
    "StudyDate": 20000102,
    "CoordX": -47.65,
    "CoordY": -130.37,
    "CoordZ": 1222.35,
    "LesionID": 1,
    "label": 1,
    "Age_at_StudyDate": 62,
    "Gender": "Female",
}


def written(tmp_path, *rows):
    path = tmp_path / "luna25.csv"
    pd.DataFrame([{**ROW, **row} for row in rows]).to_csv(path, index=False)
    return path


def test_a_lesion_of_each_round_is_a_finding(tmp_path):
    found = coordinates.read(written(tmp_path, {"StudyDate": 19990102, "Age_at_StudyDate": 61}, {}, {"LesionID": 3}))
    assert found[["pid", "study_yr", "nodule_id"]].to_numpy().tolist() == [
        [100012, 0, "1"],
        [100012, 1, "1"],
        [100012, 1, "3"],
    ]
    assert found[["x", "y", "z"]].iloc[0].tolist() == [-47.65, -130.37, 1222.35]
    assert (
        set(found["noted_age"]) == {61} and set(found["noted_gender"]) == {2} and set(found["noted_malignant"]) == {1}
    )
    assert found["noted_day"].isna().all(), "NLST's dates are one a round for everybody"
    assert set(found["kind"]) == {"luna25"} and set(found["candidates"]) == {-1}


@pytest.mark.parametrize(
    ("second", "text"),
    [
        ({"StudyDate": 20050102}, "row 3, column studydate: expected a date of 1999, 2000 or 2001"),
        ({"StudyDate": ""}, "row 3, column studydate"),
        ({"StudyDate": "02.01.2000"}, "row 3, column studydate"),
        ({"label": 2}, "row 3, column label: expected 0 or 1"),
        ({"label": ""}, "row 3, column label: expected 0 or 1"),
        ({"StudyDate": 20010102, "label": 0, "Age_at_StudyDate": 63}, "row 2, column label: this lesion has both"),
        ({"LesionID": 2, "Gender": "Male"}, "row 2, column gender: this participant has both"),
        ({"LesionID": 2, "Gender": "diverse"}, "row 3, column gender: expected Male or Female"),
        ({"LesionID": 2, "Age_at_StudyDate": "sixty"}, "row 3, column age_at_studydate: no number"),
        ({"LesionID": 2, "Age_at_StudyDate": 71}, "row 2, column age_at_studydate: does not rise with the rounds"),
        ({}, "row 3, columns pid, study_yr, nodule_id: this nodule comes again"),
        ({"LesionID": 2, "CoordX": "1,5"}, "row 3, column x: no number"),
    ],
)
def test_rows_that_cannot_be_right(tmp_path, second, text):
    with pytest.raises(DataError) as caught:
        coordinates.read(written(tmp_path, {}, second))
    assert text in str(caught.value)


def test_what_is_not_known_stays_empty(tmp_path):
    path = written(tmp_path, {"Gender": "", "Age_at_StudyDate": ""}, {"LesionID": 2, "Gender": "NA"})
    found = coordinates.read(path)
    assert found["noted_gender"].isna().all() and found["noted_age"].isna().tolist() == [True, False]
    pd.read_csv(path).drop(columns=["Gender", "Age_at_StudyDate"]).to_csv(path, index=False)
    assert coordinates.read(path)[["noted_gender", "noted_age"]].isna().all(axis=None)
