"""LIDC-IDRI's ratings as margins: what hangs on a rating that nobody gave is unknown. Nodules of several series."""

import numpy as np
import pytest

from data_prep.contract import read_cohort
from data_prep.sources import convert, lidc


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


@pytest.mark.parametrize("order", [1, -1])
def test_nodules_of_several_series_of_a_patient_are_not_the_same(tmp_path, order):
    """Their numbers begin anew in each; whatever the order of the rows. The table is one that a dataset is made of."""
    places = [("P", "1.2", 1), ("P", "1.2", 1), ("P", "1.2", 2), ("P", "1.1", 1), ("Q", "1.3", 1), ("Q", "1.3", 2)]
    text = "".join(f"{patient},{series},{number},1,2,3,9\n" for patient, series, number in places[::order])
    (tmp_path / "lidc.csv").write_text(f"patient_id,series_instance_uid,nodule_id,x,y,z,diameter\n{text}")
    convert("lidc", tmp_path / "lidc.csv", tmp_path / "cohort.csv")
    for name in ("1.1", "1.2", "1.3"):
        (tmp_path / name).mkdir()
    cohort = read_cohort(tmp_path / "cohort.csv")
    found = sorted(zip(cohort["patient_id"], cohort["nodule_id"], cohort["image"], strict=True))
    of_p = [("P", "1-1", "1.1"), ("P", "2-1", "1.2"), ("P", "2-2", "1.2")]
    assert found == [*of_p, ("Q", "1", "1.3"), ("Q", "2", "1.3")]
    assert set(cohort["study_yr"]) == {0}
