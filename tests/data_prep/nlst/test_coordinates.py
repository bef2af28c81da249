"""Sources of coordinates as people write them: what cannot be read is a fault in the file's row, never a gap."""

import pandas as pd
import pytest

from data_prep.errors import DataError
from data_prep.nlst import coordinates, noted, stmixer

OWN = (
    "pid,study_yr,nodule_id,series_uid,x,y,z,instance,box_x,box_y,box_width,box_height\n",
    "1,0,a,s,9.5,2,3,4,5,6,7,8\n",
)
NLSTX = (
    ",".join(coordinates.NLSTX) + "\n",
    "1,0,s,1,40,9,8,7,6\n",
)
TRACKED = (
    "pid,nodule_group,exam_idx,exam,abnid_in_nlst,volume,center_i,center_j,center_k\n",
    "1,1,0,1011234567890,[2 3],9,8,7,6\n",
)
STMIXER = (",".join(stmixer.NEEDED) + "\n", "1,s,0,1_0," + ",".join(["2.5"] * len(stmixer.NUMERIC)) + "\n")


def written(tmp_path, text):
    path = tmp_path / "own.csv"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("table", "old", "new", "told"),
    [
        (OWN, "1,0", "1,3", "column study_yr: expected 0, 1 or 2"),
        (OWN, "1,0", "1.5,0", "column pid: no whole number"),
        (OWN, "9.5", "NaN mm", "column x: no number"),
        (OWN, "9.5,2,3,4,5", "9.5,2,3,4,5 px", "column box_x: '5 px'; expected a number"),
        (OWN, "9.5,2,3,4", "9.5,2,3,4 of 90", "column instance: '4 of 90'; expected a number"),
        (NLSTX, ",40,", ",forty,", "column slice number: 'forty'; expected a number"),
        (NLSTX, ",9,8", ',"9,5",8', "column bounding box x (pixels): '9,5' has a comma"),
        (TRACKED, "[2 3]", "two", "column abnid_in_nlst: expected numbers, as [2 3]"),
        (TRACKED, "[2 3]", "[2.5]", "column abnid_in_nlst: expected numbers, as [2 3]"),
        (TRACKED, "8,7,6", "8,7,apex", "column center_k: 'apex'; expected a number"),
        (STMIXER, "2.5,2.5,2.5", "2.5,?,2.5", "column cy_voxel: '?'; expected a number"),
    ],
)
def test_a_cell_that_cannot_be_read(tmp_path, table, old, new, told):
    header, row = table
    assert old in row
    coordinates.read(written(tmp_path, header + row))
    with pytest.raises(DataError) as caught:
        coordinates.read(written(tmp_path, header + "\n" + row.replace(old, new, 1)))
    assert f"row 3, {told}" in str(caught.value)


@pytest.mark.parametrize(
    ("cell", "count", "number"), [("[2]", 1, 2), ("2.0", 1, 2), ("[2 3]", 2, None), ("", 0, None), ("[2.]", 1, 2)]
)
def test_abnormalities_of_a_tracking_table_as_csv(tmp_path, cell, count, number):
    found = coordinates.read(written(tmp_path, "".join(TRACKED).replace("[2 3]", cell)))
    assert found["candidates"].tolist() == [count]
    assert found["sct_ab_num"].dropna().tolist() == ([number] if number else [])


@pytest.mark.parametrize("dtype", [object, "string"])
def test_text_is_text_whatever_the_kind_of_its_column(dtype):
    """pandas 2 has text in columns of objects, as the lists of the tracking table's own parquet are."""
    cells = pd.Series(["[2 3]", "[14]", None, ""], dtype=dtype)
    table = pd.DataFrame({name: range(4) for name in coordinates.TRACKING}).assign(abnid_in_nlst=cells)
    kind = coordinates.KINDS["tracking"]
    assert kind.findings(table)["candidates"].tolist() == [2, 1, 0, 0] and kind.faults(table) == []
    lists = table.assign(abnid_in_nlst=[[2, 3], [14], [], None])
    assert kind.findings(lists)["candidates"].tolist() == [2, 1, 0, 0] and kind.faults(lists) == []
    odd = table.assign(abnid_in_nlst=cells.str.replace("[14]", "two", regex=False))
    assert [row for row, _ in kind.faults(odd)] == [1]


def test_a_table_of_ones_own_from_excel(tmp_path):
    header, row = OWN
    plain = coordinates.read(written(tmp_path, header + row))
    text = ("sep=;\n" + header + row + ",,,,,,,,,,,\n").replace(",", ";").replace("9.5", "9,5")
    pd.testing.assert_frame_equal(coordinates.read(written(tmp_path, text)), plain)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("id,days0,days1,days2\n1_0,3,nan,\n\nx,1,2,3\n", "row 4, column id: expected a participant's number"),
        ("id,days0,days1,days2\n1_0,3,soon,700\n", "row 2, column days1: 'soon'; expected a number"),
    ],
)
def test_days_that_cannot_be_read(tmp_path, text, told):
    with pytest.raises(DataError) as caught:
        noted.read([written(tmp_path, text)])
    assert told in str(caught.value)
