"""Where voxels are in the patient: only where it is sure which slice is meant."""

import numpy as np
import pandas as pd
import pytest

from data_prep.errors import DataError
from data_prep.nlst import places
from tests.data_prep.helpers import stack, write_series

COUNT = 12


def series(folder, numbers, heights=None, **tags):
    """Slices 2 mm apart, with these InstanceNumbers from the feet up; None: without."""

    def edit(number, item):
        if numbers[number] is not None:
            item.InstanceNumber = numbers[number]
        for tag, value in tags.items():
            setattr(item, tag, value)

    positions = stack(len(numbers)) if heights is None else [[-40.0, -30.0, height] for height in heights]
    write_series(folder, np.zeros((len(numbers), 20, 24)), positions, edit=edit)
    return folder


def placed(folder, instances=np.nan, **voxel):
    """A finding's position, and what is wrong with it."""
    columns = {"column": 5.0, "row": 7.0, "slice": np.nan, "instance": np.nan, **voxel}
    table = pd.DataFrame([{"folder": str(folder), "series_uid": None, "instances": instances, **columns}])
    table, wrong = places.place(table.assign(x=np.nan, y=np.nan, z=np.nan))
    return table.loc[0, ["x", "y", "z"]].tolist(), wrong.loc[0, "fault"], wrong.loc[0, "unshown"]


UP, DOWN = [*range(1, COUNT + 1)], [*range(COUNT, 0, -1)]
AT_4 = [-40 + 0.6 * 5, -30 + 0.8 * 7, 108.0]

SURE = {
    "from the feet": (UP, np.nan, {}),
    "from 0": ([number - 1 for number in UP], np.nan, {}),
    "as many as the index has": (DOWN, COUNT, {}),
    "without numbers, by the index": ([None] * COUNT, COUNT, {}),
    "from the head, by the acquisition's count": (DOWN, np.nan, {"ImagesInAcquisition": COUNT}),
}


@pytest.mark.parametrize("case", SURE)
def test_slices_of_a_whole_series(tmp_path, case):
    numbers, instances, tags = SURE[case]
    place, fault, unshown = placed(series(tmp_path, numbers, **tags), instances, slice=4)
    assert (fault, unshown) == ("", False) and place == pytest.approx(AT_4)


NOT = "series not shown to be whole"

UNSURE = {
    "the lowest six missing": ([*range(7, 19)], np.nan, {}, NOT),
    "the lowest missing, from the head, by the index": (DOWN, COUNT + 6, {}, "incomplete series"),
    "more than the index has": (UP, COUNT - 1, {}, "incomplete series"),
    "numbers with a hole": ([1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13], np.nan, {}, NOT),
    "from the head, with a hole": ([13, 12, 11, 10, 9, 8, 6, 5, 4, 3, 2, 1], np.nan, {}, NOT),
    "the highest missing, from the head": ([*range(14, 2, -1)], np.nan, {}, NOT),
    "from the head, some of the acquisition": (
        DOWN,
        np.nan,
        {"ImagesInAcquisition": 18},
        NOT,
    ),
    "without numbers": ([None] * COUNT, np.nan, {}, NOT),
    "in no order, some of the acquisition": (
        [1, 3, 12, 2, 5, 9, 7, 4, 6, 11, 8, 10],
        np.nan,
        {"ImagesInAcquisition": 14},
        NOT,
    ),
}


@pytest.mark.parametrize("case", UNSURE)
def test_slices_of_a_series_that_may_lack_some(tmp_path, case):
    numbers, instances, tags, expected = UNSURE[case]
    place, fault, _ = placed(series(tmp_path, numbers, **tags), instances, slice=4)
    assert fault == expected and np.isnan(place).all()


@pytest.mark.parametrize("numbers", [DOWN, [1, 3, 12, 2, 5, 9, 7, 4, 6, 11, 8, 10]])
def test_numbers_from_the_head_are_taken_and_counted(tmp_path, numbers):
    """They have no hole, but say nothing of the other end."""
    place, fault, unshown = placed(series(tmp_path, numbers), slice=4)
    assert (fault, unshown) == ("", True) and place == pytest.approx(AT_4)


@pytest.mark.parametrize("numbers", [UP, DOWN, [*range(7, 19)], [1, 3, 12, 2, 5, 9, 7, 4, 6, 11, 8, 10]])
def test_an_instance_number_stands_on_its_slice(tmp_path, numbers):
    """Whatever is missing at the ends."""
    place, fault, unshown = placed(series(tmp_path, numbers), instance=numbers[4])
    assert (fault, unshown) == ("", False) and place == pytest.approx(AT_4)


def test_instance_numbers_that_tell_nothing(tmp_path):
    twice = series(tmp_path / "twice", [1, 2, 3, 4, 5, 6, 7, 7, 9, 10, 11, 12])
    assert placed(twice, instance=7)[1] == "ambiguous InstanceNumber"
    assert placed(twice, instance=5) == (pytest.approx(AT_4), "", False)
    assert placed(twice, instance=8)[1] == "nodule outside the scan"
    assert placed(series(tmp_path / "none", [None] * COUNT), instance=5)[1] == "nodule outside the scan"


@pytest.mark.parametrize("voxel", [{"slice": 12}, {"slice": -1}, {"slice": 4, "column": 24}, {"slice": 4, "row": -1}])
def test_voxels_outside(tmp_path, voxel):
    assert placed(series(tmp_path, UP), **voxel)[1] == "nodule outside the scan"


def test_an_unforeseen_error_is_one_series_own(tmp_path, monkeypatch):
    folders = [series(tmp_path / f"{number:02}", UP) for number in range(24)]
    broken, opened = set(map(str, folders[::2])), places.open_series

    def sometimes(folder, uid):
        if str(folder) in broken:
            raise RuntimeError("of no kind")
        return opened(folder, uid)

    monkeypatch.setattr(places, "open_series", sometimes)
    rows = {"folder": list(map(str, folders)), "column": 5.0, "row": 7.0, "slice": 4.0, "instance": np.nan}
    table = pd.DataFrame({**rows, "x": np.nan, "y": np.nan, "z": np.nan, "series_uid": None})
    found, wrong = places.place(table)
    assert (wrong["fault"] == "unforeseen error").tolist() == [True, False] * 12
    assert "RuntimeError" in wrong["cause"][0] and "of no kind" in wrong["detail"][0] and found["z"][1] == 108.0
    broken.update(map(str, folders))
    with pytest.raises(DataError, match="20 images in a row met the same error"):
        places.place(table)
