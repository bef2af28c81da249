"""STMixer's boxes as findings, and the days of its tables of nodules."""

import numpy as np
import pandas as pd

from data_prep.nlst import coordinates, stmixer

BOX = {
    "pId": 100073,
    "seriesId": "1.2.3",
    "study_year": 0,
    "nodId": "100073_1",
    **{f"d{axis}_voxel": 12.0 for axis in "xy"},
    **{f"d{axis}_world": 6.0 for axis in "xy"},
    "dz_voxel": 3.0,
    "dz_world": 6.0,
    "cx_voxel": 400.0,
    "cy_voxel": 170.0,
    "cz_voxel": 75.0,
    "cx_world": 25.0,
    "cy_world": -90.0,
    "cz_world": -990.0,
}
"""Pixels of 0.5 mm, the first at -175, -175 mm; slices of 2 mm."""


def findings(tmp_path, *boxes):
    path = tmp_path / "boxes.csv"
    pd.DataFrame([{**BOX, **box} for box in boxes]).to_csv(path, index=False)
    return coordinates.read(path)


def test_a_box_is_a_finding_in_mm_and_tells_the_scans_geometry(tmp_path):
    found = findings(tmp_path, {}).iloc[0]
    assert (found.pid, found.study_yr, found.nodule_id, found.series_uid) == (100073, 0, "100073_1", "1.2.3")
    assert (found.x, found.y, found.z) == (25, -90, -990) and found.kind == "stmixer" and found.candidates == -1
    assert (found.pixel_mm, found.left, found.front) == (0.5, -175, -175) and found.doubt == ""


def test_slices_may_count_from_either_end_but_not_from_both(tmp_path):
    other = {"nodId": "100073_4", "cz_voxel": 85.0}
    for z in (-970.0, -1010.0):
        assert findings(tmp_path, {}, {**other, "cz_world": z})["doubt"].eq("").all()
    third = {"nodId": "100073_5", "cz_voxel": 65.0, "cz_world": -1010.0}
    doubtful = findings(tmp_path, {}, {**other, "cz_world": -1010.0}, third, {"seriesId": "9.9", "nodId": "100073_6"})
    assert doubtful["doubt"].str.startswith("boxes of its scan contradict").tolist() == [True, True, True, False]


def test_a_box_outside_the_image_is_doubted_and_others_of_its_scan_are_not(tmp_path):
    shifted = {"nodId": "100073_8", "cx_voxel": 6.0, "cy_voxel": -21.3, "cz_voxel": 45.9, "cx_world": -53.5}
    found = findings(tmp_path, {}, shifted)
    assert found["doubt"].tolist() == ["", "its box lies outside the image"]


def test_days_are_those_of_the_participants_round():
    table = pd.DataFrame(
        {
            "id": ["100012_0", "100012_3", "100026_2"],
            "days0": ["63", "63", "nan"],
            "days1": ["390", "391", "360"],
            "days2": ["748.0", "nan", "724"],
            "age": [60, 60, 57],
        }
    )
    days = stmixer.people([table]).set_index(["pid", "study_yr"])
    assert days.loc[100012, "noted_day"].fillna(-1).tolist() == [63, -1, 748], "two days of one round: neither is taken"
    assert days.loc[100026, "noted_day"].tolist()[1:] == [360, 724] and np.isnan(days.loc[(100026, 0), "noted_day"])
    assert days.loc[100012, "noted_age"].tolist() == [60, 60, 60]


def test_days_that_stand_for_none_are_not_taken():
    """STMixer's 365 and 730 never, its 0 unless another table knows the day; two that contradict each other neither."""
    stmixers = pd.DataFrame({"id": ["1_0", "2_0", "3_0"], "days0": [0, 0, 12], "days1": [365, 365, 380], "days2": 730})
    gmae = pd.DataFrame({"id": ["2_0", "3_0"], "days0": [32, 12], "days1": [392, 385], "days2": ["nan", 737.0]})
    days = stmixer.people([stmixers, gmae]).set_index(["pid", "study_yr"])["noted_day"]
    assert days.loc[1].fillna(-1).tolist() == [0, -1, -1]
    assert days.loc[2].fillna(-1).tolist() == [32, 392, -1]
    assert days.loc[3].fillna(-1).tolist() == [12, -1, 737]
