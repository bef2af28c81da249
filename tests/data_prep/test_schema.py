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


def test_a_patient_has_one_gender(folder):
    table = [
        rows(gender=1),
        rows(nodule_id="2", gender=""),
        rows(study_yr=1, gender=2),
        rows(patient_id="P2", gender=2),
    ]
    message = faults(write_table(folder, table))
    assert "3 faults" in message
    assert all(
        f"row {row}, column gender: expected one per patient; patient P1 has both." in message for row in (2, 3, 4)
    )


def test_nobody_grows_younger(folder):
    """Over a patient's rounds, whatever the nodule; over a nodule's own days, which may count from its first scan."""
    told = "row {}, column age: expected not to fall with time; patient P1 has been older before."
    for column, times in (("study_yr", (0, 1)), ("days_from_baseline", (0, 365))):
        table = [{**rows(age=age), column: time} for time, age in zip(times[::-1], (55, 62), strict=True)]
        if column != "study_yr":
            [row.pop("study_yr") for row in table]
        message = faults(write_table(folder, table))
        assert "1 fault (" in message and told.format(2) in message
    table = [rows(age=62), rows(nodule_id="2", study_yr=1, age=55), rows(patient_id="P2", study_yr=2, age=40)]
    assert told.format(3) in faults(write_table(folder, table))
    good = [rows(age=62), rows(nodule_id="2", age=63), rows(study_yr=1, age=""), rows(study_yr=2, age=63)]
    assert len(read_cohort(write_table(folder, good))) == 4
    days = [("1", 0, 60), ("1", 400, 61), ("2", 0, 63), ("2", 400, 64)]
    counted = [rows(nodule_id=nodule, days_from_baseline=day, age=age, study_yr="") for nodule, day, age in days]
    assert len(read_cohort(write_table(folder, counted))) == 4


def test_columns_of_time_that_are_empty(folder):
    for columns in (("study_yr",), ("days_from_baseline",), ("study_yr", "days_from_baseline")):
        table = [{name: value for name, value in rows().items() if name != "study_yr"} | dict.fromkeys(columns, "")]
        message = faults(write_table(folder, table))
        assert "1 fault (" in message and "row 2, column study_yr or days_from_baseline: empty" in message


def test_an_interval_is_days_to_a_forecast_and_stands_in_a_nodules_last_row(folder):
    table = [
        *[rows(patient_id=f"P{n}", interval_days=days) for n, days in enumerate((0, -365, 90.5, "a year", "inf"))],
        rows(patient_id="Q", interval_days=400),
        rows(patient_id="Q", study_yr=1, interval_days=400),
    ]
    message = faults(write_table(folder, table))
    assert message.count("column interval_days: ") == 6
    assert all(f"row {row}, column interval_days: " in message for row in (2, 3, 4, 5, 6, 7))
    assert "'90.5': expected whole days to the forecast, 1 or more" in message
    assert "row 7, column interval_days: expected nothing, as a later time of the nodule follows" in message
    assert read_cohort(write_table(folder, table[-1:]))["interval_days"].tolist() == [400]
    assert read_cohort(write_table(folder, [rows()]))["interval_days"].isna().all()


def test_the_truth_of_simulated_cases_is_possible_or_refused(folder):
    message = faults(write_table(folder, [rows(oracle=1.5, oracle_growth="sure", simulated_growth=0)]))
    assert "row 2, column oracle: '1.5': expected a probability" in message
    assert (
        "row 2, column oracle_growth: 'sure'" in message
        and "column simulated_growth: '0': expected a factor" in message
    )
    known = read_cohort(write_table(folder, [rows(oracle=0.25), rows(nodule_id="2")]))
    assert known["oracle"].tolist()[0] == 0.25 and known["oracle_growth"].isna().all()


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


def as_people_write_it(folder, table, change):
    """A cohort table, its text changed."""
    path = write_table(folder, table)
    path.write_text(change(path.read_text()))
    return path


@pytest.mark.parametrize("column", ["image", "nodule_id", "study_yr"])
def test_each_needed_column_may_be_missing(folder, call, column):
    table = [{name: value for name, value in rows().items() if name != column}]
    code, shown = call("cohort", write_table(folder, table), "--out", folder / "out")
    assert code == 2 and f"column {column}: missing" in shown.err and "Traceback" not in shown.err


def test_rows_of_excels(folder, call):
    """Blank ones count and are no fault; an empty image cell is one."""
    table = [
        rows(),
        rows(patient_id="P2", image=""),
        rows(patient_id="P3", age=-1),
        rows(patient_id="P4", image="n" * 999 + ".nii"),
    ]

    def blank(text):
        header, *lines = text.splitlines()
        empty = "," * header.count(",")
        return "\n".join([header, lines[0], empty, "", *lines[1:], empty, empty])

    code, shown = call("cohort", as_people_write_it(folder, table, blank), "--out", folder / "out")
    assert code == 2 and "3 faults" in shown.err
    assert "row 5, column image: empty; expected a value." in shown.err
    assert "row 6, column age: '-1'" in shown.err and "no such file or folder" in shown.err.splitlines()[-1]
    assert read_cohort(as_people_write_it(folder, table[:1], blank)).index.tolist() == [0]


@pytest.mark.parametrize(("separator", "first"), [(";", ""), ("\t", "sep={}\n")])
def test_semicolons_and_tabs_read_as_commas_do(folder, separator, first):
    table = [rows(sct_long_dia=9.5, x=-1.25, y=2, z=0.125), rows(study_yr=1, x=1, y=1, z=1, image="dicom")]
    expected = read_cohort(write_table(folder, table))
    for decimal in (".", ","):
        path = as_people_write_it(
            folder,
            [{**row, "image": row["image"].replace(".", "!")} for row in table],
            lambda text, decimal=decimal: (
                first.format(separator) + text.replace(",", separator).replace(".", decimal).replace("!", ".")
            ),
        )
        pd.testing.assert_frame_equal(read_cohort(path), expected)


def test_a_value_that_cannot_be_read_is_a_fault(folder):
    columns = ("sct_long_dia", "x", "days_from_baseline", "malignant")
    values = ("9,5", "9_5", "infinity", "٩", "1e999", "#VALUE!", "9.5 mm")
    spoilt = [(column, value) for column in columns for value in values]
    table = [
        rows(patient_id=f"P{number}", **{"x": 1, "y": 2, "z": 3, "days_from_baseline": 0, column: value})
        for number, (column, value) in enumerate(spoilt)
    ]
    message = faults(write_table(folder, table))
    for number, (column, value) in enumerate(spoilt):
        comma = " has a comma where numbers have a point" if value == "9,5" else ""
        assert f"row {number + 2}, column {column}: {value!r}{comma}: expected" in message
    assert f"{len(spoilt)} faults" in message


@pytest.mark.parametrize(
    ("column", "first", "second"),
    [
        *(("patient_id", "0025", "25"), ("patient_id", "P1", "p1"), ("patient_id", "S1-007", "S1_7")),
        *(("patient_id", "7", "7.0"), ("nodule_id", "3.0", "03")),
        *(("nodule_id", "01", "1"), ("nodule_id", "A", "a"), ("nodule_id", "n.1", "n-1")),
    ],
)
def test_identifiers_that_differ_in_form_alone(folder, column, first, second):
    table = [rows(**{column: first}), rows(**{column: first}, study_yr=1), rows(**{column: second}, study_yr=2)]
    message = faults(write_table(folder, table))
    assert f"row 4, column {column}: {second!r} and {first!r} differ in form alone" in message
    assert "1 fault" in message


def test_identifiers_that_are_different(folder):
    names = ("1-23", "12-3", "123", "P1", "P10", "1.3.6.1", "1.3.6.10", "0", "P0", "1a", "a1")
    table = [rows(patient_id=name, nodule_id=nodule) for name in names for nodule in ("1", "2", "10")]
    assert read_cohort(write_table(folder, table))["patient_id"].nunique() == len(names)


def test_whole_numbers_beside_empty_cells(folder):
    """As pandas writes and reads them: all with a point."""
    table = pd.DataFrame([rows(patient_id=7.0, nodule_id=1.0, gender=None), rows(patient_id=8.0, nodule_id=2.0)])
    for name in ("t.csv", "t.parquet"):
        getattr(table, f"to_{name[2:]}")(folder / name, index=False)
        read = read_cohort(folder / name)
        assert read["patient_id"].tolist() == ["7", "8"] and read["nodule_id"].tolist() == ["1", "2"]


def test_spaces_around_an_identifier_are_none(folder):
    table = [rows(patient_id=" P1"), rows(patient_id="P1 ", study_yr=1), rows(patient_id="\u00a0P1", study_yr=2)]
    assert set(read_cohort(write_table(folder, table))["patient_id"]) == {"P1"}


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        *((("coordX", "coordY", "coordZ"), "xyz"), (("X (mm)", "Y (mm)", "Z (mm)"), "xyz")),
        *((("PatientID",), ("patient_id",)), (("license",), ("licence",)), (("malignancy",), ("malignant",))),
    ],
)
def test_columns_under_nearly_our_names(folder, call, theirs, ours):
    """Without a word, the middle of the scan would be cut, an outcome or a licence lost."""
    table = {**rows(), **dict.fromkeys(theirs, 1)}
    table.pop(ours[0], None)
    code, shown = call("cohort", write_table(folder, [table]), "--out", folder / "out")
    assert code == 2
    for one, other in zip(theirs, ours, strict=True):
        assert f"column {other}: missing, but there is {one.lower()}. Rename that" in shown.err
    if ours[0] != "patient_id":
        read_cohort(write_table(folder, [table | dict.fromkeys(ours, "")]))
