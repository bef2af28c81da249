"""Tables of probabilities: written, read, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scripts.comparators.tables import read_table, write_table
from scripts.errors import UserError


def test_runs_are_added_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "table.csv"
    for run, values in ((7, [0.1, 0.2]), (3, [0.3, 0.4]), (7, [0.5, 0.6])):
        write_table(path, run, ["010", "b"], values)
    np.testing.assert_array_equal(read_table(path, ["b", "010"]), [[0.4, 0.3], [0.6, 0.5]])
    np.testing.assert_array_equal(read_table(path, ["010"]), [[0.3], [0.5]])
    assert [child.name for child in path.parent.iterdir()] == ["table.csv"], "nothing partial stays"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (None, "no such table"),
        ("case_id,probability\na,0.5\nb,0.5\n", "no column run"),
        ("case_id,run,probability\na,0,0.5\n", "run 0 has no probability for 1 of 2 cases: b"),
        ("case_id,run,probability\na,0,0.5\nb,0,0.5\na,1,0.5\n", "run 1 has no probability for 1 of 2 cases: b"),
        ("case_id,run,probability\na,0,0.5\na,0,0.5\nb,0,0.5\n", "a stand twice"),
        ("case_id,run,probability\na,0,1.5\nb,0,0.5\n", "those of a are none"),
        ("case_id,run,probability\na,0,\nb,0,0.5\n", "those of a are none"),
        ("case_id,run,probability\na,0,high\nb,0,0.5\n", "cannot be read"),
        ("case_id,run,probability\n", "no probability for any case"),
        ("", "cannot be read"),
    ],
)
def test_faults_of_a_table_are_named(tmp_path: Path, rows: str | None, message: str) -> None:
    path = tmp_path / "table.csv"
    if rows is not None:
        path.write_text(rows)
    with pytest.raises(UserError, match=message) as caught:
        read_table(path, ["a", "b"])
    assert str(path) in str(caught.value)
