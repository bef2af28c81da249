"""LIDC-IDRI's ratings as margins: what hangs on a rating that nobody gave is unknown."""

import numpy as np
import pytest

from data_prep.sources import lidc


@pytest.mark.parametrize(
    ("columns", "ratings", "expected"),
    [
        ("margin,spiculation", "5,1", 2),
        ("margin,spiculation", "2,1", 3),
        ("margin,spiculation", "5,4", 1),
        ("margin,spiculation", ",5", 1),
        ("margin,spiculation", "5,", np.nan),
        ("margin,spiculation", "1,", np.nan),
        ("margin,spiculation", ",1", np.nan),
        ("margin", "5", np.nan),
    ],
)
def test_margins(tmp_path, columns, ratings, expected):
    (tmp_path / "lidc.csv").write_text(
        f"patient_id,series_instance_uid,nodule_id,x,y,z,diameter,{columns}\nP,1.2,1,1,2,3,9,{ratings}\n"
    )
    np.testing.assert_equal(lidc.read(tmp_path / "lidc.csv")["sct_margins"].astype(float).tolist(), [expected])
