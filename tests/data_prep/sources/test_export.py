"""A site's own export: words and their codes, and the table that it is read from."""

import pandas as pd
import pytest

from data_prep.errors import DataError
from data_prep.sources import export

PLAN = """table: {}
columns: {{patient_id: MRN, nodule_id: Nodule, series: File, x: X, y: Y, z: Z, diagemph: Emphysema}}
codes: {{diagemph: {}}}
"""


def read(folder, cells, codes, name="ward.csv"):
    """The column ``diagemph`` of a ward's table with these cells."""
    count = len(cells)
    table = pd.DataFrame({"MRN": range(count), "Nodule": 1, "File": "s", "X": 1, "Y": 2, "Z": 3, "Emphysema": cells})
    if name.endswith(".csv"):
        table.to_csv(folder / name, index=False)
    else:
        table.to_parquet(folder / name)
    (folder / "ward.yaml").write_text(PLAN.format(name, codes))
    return [None if pd.isna(code) else float(code) for code in export.read(folder / "ward.yaml")["diagemph"]]


def test_a_word_with_a_code_is_no_gap(tmp_path):
    """None, NA and N/A among them, of which other columns say that there is no value."""
    codes = "{none: 0, n/a: 0, mild: 1}"
    assert read(tmp_path, ["None", "mild", " NONE ", "N/A", "", "NA"], codes) == [0, 1, 0, 0, None, None]
    assert read(tmp_path, ["none", "mild", ""], "{mild: 1}") == [None, 1, None]
    with pytest.raises(DataError, match="row 3, column emphysema: 'severe' has no code of diagemph"):
        read(tmp_path, ["None", "severe"], codes)


def test_a_cell_that_is_empty_in_the_file_is_no_word(tmp_path):
    assert read(tmp_path, [None, "none", "mild"], "{none: 0, mild: 1}", "ward.parquet") == [None, 0, 1]


def test_the_table_is_not_written_over(tmp_path, call):
    read(tmp_path, ["None"], "{none: 0}")
    (tmp_path / "link.csv").symlink_to(tmp_path / "ward.csv")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for name in ("ward.csv", "ward.yaml", "link.csv"):
        code, shown = call("convert", "export", tmp_path / "ward.yaml", "--out", tmp_path / name)
        assert code == 2 and "would be written over" in shown.err and shown.err.count("\n") == 1
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
