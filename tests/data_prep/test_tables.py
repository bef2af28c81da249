"""Tables as hospitals write them: what leaves no doubt is read and said, what leaves some is refused by its row."""

import gzip

import pandas as pd
import pytest

from data_prep.errors import DataError
from data_prep.tables import alike, numbers, read_columns

HEADER = ["pid", "name", "x", "y"]
ROWS = [["1", "a", "9.5", "-12.25"], ["2", "b", "30", "4.125"]]


def written(tmp_path, text, name="t.csv", encoding="utf-8"):
    path = tmp_path / name
    path.write_bytes(text.encode(encoding))
    return path


def joined(separator, rows=(HEADER, *ROWS), end="\n"):
    return end.join(separator.join(row) for row in rows) + end


def refused(path, needed=("pid", "x")):
    with pytest.raises(DataError) as caught:
        read_columns(path, needed, ("name", "y"))
    return str(caught.value)


READ = {
    "commas": (joined(","), "utf-8", ""),
    "a byte order mark": (joined(","), "utf-8-sig", ""),
    "old line ends": (joined(",", end="\r"), "utf-8", ""),
    "rows that Excel ends with empty cells": (joined(",", [HEADER, *([*row, "", ""] for row in ROWS)]), "utf-8", ""),
    "empty rows of Excel's": (joined(",", [HEADER, ROWS[0], [""] * 4, ROWS[1], [" "] * 4, []]), "utf-8", ""),
    "a column without a name": (
        joined(",", [["", *HEADER], *([str(n), *row] for n, row in enumerate(ROWS))]),
        "utf-8",
        "",
    ),
    "semicolons": (joined(";"), "utf-8", "semicolons"),
    "tabs": (joined("\t"), "utf-8", "tabs"),
    "bars": (joined("|"), "utf-8", "bars"),
    "a line sep": ("sep=;\n" + joined(";"), "utf-8", "semicolons"),
    "a quoted line sep": ('"sep=\t"\r\n' + joined("\t", end="\r\n"), "utf-8", "tabs"),
    "Excel's Unicode text": (joined("\t", end="\r\n"), "utf-16", "tabs"),
    "decimal commas": (joined(";").replace(".", ","), "utf-8", "semicolons and decimal commas"),
    "decimal commas between tabs": (joined("\t").replace(".", ","), "utf-8", "tabs and decimal commas"),
    "a separator in a quoted name": (joined(";", [["pid", '"name, family"', "x", "y"], *ROWS]), "utf-8", "semicolons"),
}


@pytest.mark.parametrize("kind", READ)
def test_what_leaves_no_doubt_is_read_and_said(tmp_path, capsys, kind):
    text, encoding, told = READ[kind]
    path = written(tmp_path, text, encoding=encoding)
    table = read_columns(path, ("pid", "x", "y"))
    assert table["pid"].tolist() == ["1", "2"]
    assert [numbers(table[name])[0].tolist() for name in "xy"] == [[9.5, 30], [-12.25, 4.125]]
    said = capsys.readouterr().err.splitlines()
    assert said == ([f"{path}: read as a table with {told}."] if told else [])


@pytest.mark.parametrize("needed", [(), ("pid",)])
@pytest.mark.parametrize("rows", [[HEADER], [HEADER, *ROWS]])
def test_few_columns_and_no_rows(tmp_path, needed, rows):
    table = read_columns(written(tmp_path, joined(",", rows)), needed, ())
    assert table.shape == (len(rows) - 1, len(needed)) and list(table) == list(needed)


def test_a_packed_table(tmp_path):
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(joined(",").encode()))
    assert read_columns(tmp_path / "t.csv.gz", ("pid",), ())["pid"].tolist() == ["1", "2"]


REFUSED = {
    "a cell more": (joined(",", [HEADER, ROWS[0], ["2", "b", "c", "30", "4"]]), ("row 3: 5 cells, the header has 4",)),
    "a cell more in every row": (joined(",", [HEADER, *([*row, "9"] for row in ROWS)]), ("row 2: 5", "row 3: 5")),
    "a cell less": (joined(",", [HEADER, ROWS[0], ["2", "b", "30"]]), ("row 3: 3 cells",)),
    "a decimal comma between commas": (
        joined(",").replace(".", ","),
        ("row 2: 6", "row 3: 5", "Quote cells with commas"),
    ),
    "a shifted row after blank ones": (joined(",", [HEADER, [], ROWS[0], [""] * 4, ["2", "b"]]), ("row 5: 2 cells",)),
    "a quote that is left open": (joined(",").replace(",a,", ',"a,'), ("line 3", "Quote whole cells")),
    "a file that was cut off": (joined(",")[:-8], ("row 3: the file ends within it. It was cut off; get it anew.",)),
    "two separators": ("pid,name;x,y;z\n1,a;2,3;4\n", ("commas or semicolons between its columns?",)),
    "nothing": ("\n\n", ("empty; expected a header",)),
    "a column twice": (joined(",", [["pid", "x", "x", "y"], *ROWS]), ("column x: given twice",)),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_tables_that_shift(tmp_path, kind):
    text, told = REFUSED[kind]
    message = refused(written(tmp_path, text))
    assert all(words in message for words in told), message


def test_what_is_no_text_in_utf_8(tmp_path):
    assert "line 3 is not UTF-8" in refused(written(tmp_path, joined(",").replace("b", "Müller"), encoding="cp1252"))
    assert "save it as CSV UTF-8" in refused(written(tmp_path, "PK\x03\x04...", name="t.xlsx"))


@pytest.mark.parametrize(
    "rows",
    [
        [["1", "a", "9,500", "1,250"]],  # thousands, or three decimals
        [["1", "a", "9,5", "1.25"]],
        [["1", "a", "1.234,5", "2"]],
    ],
)
def test_commas_in_doubt_stay_and_are_refused_as_numbers(tmp_path, rows):
    table = read_columns(written(tmp_path, joined(";", [HEADER, *rows])), ("pid", "x", "y"))
    assert numbers(table["x"])[1].all() and table["x"].tolist() == [rows[0][2]]


def test_rows_have_the_files_numbers(tmp_path):
    """Of Excel: blank rows count, and a cell of two lines is in one row."""
    text = joined(",", [HEADER, [], ["1", '"a\nb"', "2", "3"], [""] * 4, ROWS[1]])
    assert (read_columns(written(tmp_path, text), ("pid",), ()).index + 2).tolist() == [3, 5]


def test_what_is_a_number():
    good = {"9.5": 9.5, " -.5 ": -0.5, "1E3": 1000.0, "+7.": 7.0}
    bad = ["9,5", "1_000", "infinity", "inf", "1e999", "٣", "0x10", "1.2.3", "#N/A", "true", "--1"]
    missing = ["", " ", ".", "NA", ".E", "._", "None"]
    values, wrong = numbers(pd.Series([*good, *bad, *missing]))
    assert values[: len(good)].tolist() == list(good.values())
    assert wrong.tolist() == [False] * len(good) + [True] * len(bad) + [False] * len(missing)
    values, wrong = numbers(pd.Series([1.0, float("inf"), float("nan")]))
    assert wrong.tolist() == [False, True, False] and values.isna().tolist() == [False, True, True]


def test_parquet_whose_columns_are_an_index(tmp_path):
    table = pd.DataFrame([*ROWS, *ROWS], columns=HEADER).set_index("pid")[::2]
    table.to_parquet(tmp_path / "t.parquet")
    read = read_columns(tmp_path / "t.parquet", ("pid", "x"))
    assert read["pid"].tolist() == ["1", "1"] and read.index.tolist() == [0, 1]


OURS = ("patient_id", "study_yr", "x", "y", "z", "licence", "malignant", "split", "scr_days0", "w")


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        *(("PatientID", "patient_id"), ("patient-id", "patient_id"), ("study_year", "study_yr"), ("splits", "split")),
        *(("license", "licence"), ("malignancy", "malignant"), ("scr_days_0", "scr_days0"), ("coordX", "x")),
        *(("x (mm)", "x"), ("Centre_Y", "y"), ("nodule_center_z", "z"), ("pos_z_mm", "z"), ("voxel x", "x")),
    ],
)
def test_names_that_are_nearly_ours(theirs, ours):
    assert alike([theirs.lower(), "remark"], OURS) == {ours: theirs.lower()}
    assert alike([theirs.lower(), ours], OURS) == {}


def test_names_that_are_others(shared_data):
    """No column of the real tables is taken for another, whatever a release lacks."""
    from data_prep.nlst.tables import SPECS

    lists = (shared_data / "nlst" / "columns.txt").read_text().splitlines()
    real = {name for line in lists if "," in line for name in line.strip().split(",")}
    assert len(real) > 80
    for spec in SPECS.values():
        for lacking in (spec.taken, spec.text, spec.needed):
            assert alike([name for name in real if name not in lacking], (*spec.key, *lacking)) == {}
    for name in (
        "coordinates",
        "max",
        "w",
        "simulated_growth",
        "malignancy_rating",
        "scr_days3",
        "exam",
        "bboxlowx",
        "split_date",
        "source_id",
    ):
        assert alike([name], (*OURS[:-1], "simulated", "source")) == {}, name


def test_a_needed_column_under_another_name_is_named(tmp_path):
    path = written(tmp_path, joined(",").replace("pid", "p_id").replace("x", "CoordX"))
    message = refused(path)
    assert "column pid: missing, but there is p_id. Rename that." in message
    assert "column x: missing, but there is coordx. Rename that." in message
    message = refused(written(tmp_path, joined(",").replace("y", "y (mm)")))
    assert "column y: missing, but there is y (mm). Rename that, or add an empty column y" in message
