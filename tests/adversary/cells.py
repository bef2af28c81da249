"""What can happen to a cohort table."""

from __future__ import annotations

import csv
from random import Random

from tests.adversary.corruption import corrupts
from tests.adversary.tables import FEATURES, PATIENTS, Line, Table


def spoil(table: Table, rng: Random, name: str, *cells: str) -> Line:
    """Writes one of ``cells`` into a column of a row."""
    row = rng.choice(table.rows)
    row[name] = rng.choice(cells)
    table.wrong = table.wrong or row
    return row


@corrupts("table", facet="start")
def a_byte_order_mark(table: Table, rng: Random) -> None:
    table.start = b"\xef\xbb\xbf"


@corrupts("table", facet="ending")
def carriage_returns(table: Table, rng: Random) -> None:
    table.ending = "\r\n"


@corrupts("table", facet="header")
def names_in_capitals(table: Table, rng: Random) -> None:
    table.names = {name: shown.upper() for name, shown in table.names.items()}


@corrupts("table", facet="header")
def blanks_about_names_and_cells(table: Table, rng: Random) -> None:
    table.names = {name: f" {shown} " for name, shown in table.names.items()}
    for row in table.rows:
        row |= {name: f"{cell} " for name, cell in row.items()}


@corrupts("table", facet="form")
def every_cell_quoted(table: Table, rng: Random) -> None:
    table.quoting = csv.QUOTE_ALL


@corrupts("table", facet="lines")
def blank_lines(table: Table, rng: Random) -> None:
    for _ in range(rng.randint(1, 3)):
        table.lines.insert(rng.randint(0, len(table.lines)), "")


@corrupts("table", facet="form")
def another_separator(table: Table, rng: Random) -> None:
    table.separator = rng.choice((";", "\t", "|"))


@corrupts("table", facet="start")
def a_line_for_excel(table: Table, rng: Random) -> None:
    table.start = f"sep={table.separator}\n".encode()


@corrupts("table", facet="form, start, header, ending, lines, image path, rows, kind of cell")
def parquet(table: Table, rng: Random) -> None:
    table.suffix = ".parquet"


@corrupts("table", facet="form, start, letters", not_read=("cannot be read", "UTF-8"))
def another_encoding(table: Table, rng: Random) -> None:
    table.encoding = rng.choice(("utf-16", "latin-1"))
    table.rows[0]["note"] = "früher"


@corrupts("table", facet="columns")
def columns_in_another_order(table: Table, rng: Random) -> None:
    order = [*table.names]
    rng.shuffle(order)
    table.names = {name: table.names[name] for name in order}


@corrupts("table", facet="form, rows", refused=("row", "line"))
def a_quote_that_is_not_closed(table: Table, rng: Random) -> None:
    row = table.rows[-1]
    cells = [row[name] for name in table.names]
    table.lines[table.lines.index(row)] = ",".join(['"' + cells[0], *cells[1:]])


@corrupts("table", facet="rows", refused="row")
def a_field_too_many(table: Table, rng: Random) -> None:
    """A comma within a note that nobody quoted."""
    row = rng.choice(table.rows)
    row["more"] = rng.choice(("left", "0"))
    table.wrong = row


@corrupts("table", facet="rows", refused="row")
def a_field_too_few(table: Table, rng: Random) -> None:
    row = rng.choice(table.rows)
    left_out = rng.choice([name for name in table.names if name not in ("note", "split")])
    table.wrong = table.separator.join(row[name] for name in table.names if name != left_out)
    table.lines[next(n for n, line in enumerate(table.lines) if line is row)] = table.wrong


@corrupts("table", facet="rows")
def a_row_without_anything(table: Table, rng: Random) -> None:
    """As a spreadsheet writes a row that somebody emptied."""
    table.lines.insert(rng.randint(0, len(table.lines)), table.separator * (len(table.names) - 1))


@corrupts("table", facet="rows", refused="row")
def the_header_again(table: Table, rng: Random) -> None:
    table.wrong = table.separator.join(table.names.values())
    table.lines.insert(rng.randint(1, len(table.lines)), table.wrong)


@corrupts("table", facet="rows", refused="row")
def a_line_of_totals(table: Table, rng: Random) -> None:
    table.wrong = table.separator.join(["Total", "4", *[""] * (len(table.names) - 2)])
    table.lines.append(table.wrong)


@corrupts("table", facet="rows, numbers", refused="row")
def a_row_twice(table: Table, rng: Random) -> None:
    row = dict(rng.choice(table.rows))
    table.wrong = row
    table.lines.append(row)


@corrupts("table", facet="columns, rows", refused=("given twice", "comes twice", "again"))
def a_column_twice(table: Table, rng: Random) -> None:
    table.twice = rng.choice(("x", "malignant", "sct_long_dia", "patient_id"))
    for row in table.rows:
        row[f"{table.twice} again"] = rng.choice(table.rows)[table.twice]


@corrupts("table", facet="columns", refused="missing")
def a_column_missing(table: Table, rng: Random) -> None:
    table.names.pop(rng.choice(("patient_id", "nodule_id", "study_yr", "image", *FEATURES)))


@corrupts("table", facet="columns", refused=("missing", "column"))
def a_column_of_nearly_the_name(table: Table, rng: Random) -> None:
    if rng.random() < 0.5:
        forms = rng.choice((("coordX", "coordY", "coordZ"), ("x_mm", "y_mm", "z_mm"), ("pos_x", "pos_y", "pos_z")))
        table.names |= dict(zip("xyz", forms, strict=True))
    else:
        name, shown = rng.choice((("age", "age_years"), ("sct_long_dia", "sct_long_diam"), ("malignant", "malignancy")))
        table.names[name] = shown


@corrupts("table", facet="identity", refused=("differ", "again"))
def identifiers_that_differ_in_form_alone(table: Table, rng: Random) -> None:
    first, second = rng.choice(
        (("0025", "25"), ("mrn7731905", "MRN7731905"), ("P-1", "p-1"), ("7", "7.0"), ("007", "07"))
    )
    for row in table.rows:
        row["patient_id"] = first if row["patient_id"] == PATIENTS[0] else second


@corrupts("table", facet="identity", refused=("row",))
def an_identifier_that_is_none(table: Table, rng: Random) -> None:
    spoil(table, rng, rng.choice(("patient_id", "nodule_id")), "", "NA", "a/b", "..", "P 1", "é1", "-1")


@corrupts("table", facet="numbers, kind of cell", refused="row")
def a_number_that_is_none(table: Table, rng: Random) -> None:
    name = rng.choice(("sct_long_dia", "x", "z", "age", "sct_perp_dia"))
    words = ("9,5", "9 mm", "1_0", "9-Jul", "#VALUE!", "#N/A", "inf", "-inf", "1e400", "9.5.1", "ca. 9", "?", "0x1F")
    spoil(table, rng, name, *words)


@corrupts("table", facet="numbers, kind of cell, letters", not_read="row")
def a_number_in_odd_letters(table: Table, rng: Random) -> None:
    row = spoil(table, rng, "x", "\u221212.5", "\uff19.5", "\u00a09.5", "\u0664")
    number = {"\u221212.5": -12.5, "\uff19.5": 9.5, "\u00a09.5": 9.5, "\u0664": 4.0}[row["x"]]
    table.expected[table.rows.index(row)]["x"] = number


@corrupts("table", facet="numbers")
def numbers_with_points_and_exponents(table: Table, rng: Random) -> None:
    for row in table.rows:
        row["sct_long_dia"] = f"{float(row['sct_long_dia']):.3e}"
        row |= {name: f"{row[name].strip()}.0" for name in ("study_yr", "gender", "age", "sct_pre_att")}


@corrupts("table", facet="numbers")
def values_that_are_not_known(table: Table, rng: Random) -> None:
    number = rng.randrange(len(table.rows))
    for name in rng.sample(FEATURES, 3):
        table.rows[number][name] = rng.choice(("", ".", "NA", "n/a", ".M", ".n", "NaN", "None", "null"))
        table.expected[number][name] = None


@corrupts("table", facet="numbers", refused="row")
def a_code_that_is_none(table: Table, rng: Random) -> None:
    spoil(table, rng, rng.choice(("gender", "sct_pre_att", "sct_margins", "diagemph")), "5", "-1", "1.5", "m", "999")


@corrupts("table", facet="outcome", refused="row")
def an_outcome_that_is_none(table: Table, rng: Random) -> None:
    spoil(table, rng, "malignant", "2", "yes", "benign", "0.5", "-1", "TRUE")


@corrupts("table", facet="outcome", refused="malignant")
def both_outcomes(table: Table, rng: Random) -> None:
    table.rows[0]["malignant"], table.rows[1]["malignant"] = rng.sample(("0", "1"), 2)


@corrupts("table", facet="sections", refused="split")
def a_patient_in_two_sections(table: Table, rng: Random) -> None:
    table.rows[0]["split"], table.rows[1]["split"] = rng.sample(("training", "validation", "test"), 2)


@corrupts("table", facet="sections", refused="row")
def a_section_that_is_none(table: Table, rng: Random) -> None:
    spoil(table, rng, "split", "train", "Training set", "1")


@corrupts("table", facet="time", refused="row")
def a_time_that_is_none(table: Table, rng: Random) -> None:
    spoil(table, rng, "study_yr", "", "T0", "-1", "0.5", "first")


@corrupts("table", facet="image path", refused="row")
def an_image_that_is_none(table: Table, rng: Random) -> None:
    row = spoil(table, rng, "image", "", "gone.nii.gz", "images/scan.jpg", "C:\\scans\\1.nii", "images")
    table.images |= {"images/scan.jpg"}
    row["x"] = row["y"] = row["z"] = row["x"] if row["image"] != "images" else ""


@corrupts("table", facet="image path")
def images_by_other_paths(table: Table, rng: Random) -> None:
    for row in table.rows:
        row["image"] = rng.choice(("./", "images/../", "FOLDER/")) + row["image"]


@corrupts("table", facet="numbers", refused="x, y, z")
def a_point_without_one_coordinate(table: Table, rng: Random) -> None:
    spoil(table, rng, rng.choice("xyz"), "", "NA")
