"""There and back: a voxel's place in the patient (mm, LPS), by DICOM's own formula and by the crop's affine."""

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import ndimage

from data_prep.images import crops
from data_prep.images.dicom import open_series
from tests.data_prep.helpers import write_series

TOLERANCE_MM = 0.1
SIZE, SPACING = 32, (0.8, 0.6)


def place(path, row, column):
    """DICOM PS3.3, equation C.7.6.2.1-1."""
    item = pydicom.dcmread(path, stop_before_pixels=True)
    x, y = np.array(item.ImageOrientationPatient[:3], float), np.array(item.ImageOrientationPatient[3:], float)
    rows_mm, columns_mm = map(float, item.PixelSpacing)
    return np.array(item.ImagePositionPatient, float) + x * columns_mm * column + y * rows_mm * row


def marked(crop):
    """Where the crop shows the mark, mm, LPS: the middle of what is brighter than air, to fractions of a pixel."""
    hu = np.asarray(crop.dataobj, dtype=float)
    voxel = ndimage.center_of_mass((hu - crops.AIR).clip(0))
    return (crop.affine @ [*voxel, 1.0])[:3] * [-1, -1, 1]


ORIENTATIONS = {
    "supine": (1, 0, 0, 0, 1, 0),
    "prone": (-1, 0, 0, 0, -1, 0),
    "mirrored": (-1, 0, 0, 0, 1, 0),
    "on the side": (0, 1, 0, -1, 0, 0),
    "on the other side": (0, -1, 0, 1, 0, 0),
    "a little turned": (0.9999998, 0.0006, 0, -0.0006, 0.9999998, 0),
}


def mark(number, row, column):
    """Air, and in one slice a soft spot about one voxel, 1.2 mm wide, so that its middle survives resampling."""
    rows, columns = np.ogrid[:30, :34]
    distance = np.hypot((rows - row) * SPACING[0], (columns - column) * SPACING[1])
    hu = np.full((4, 30, 34), float(crops.AIR))
    hu[number] += 3500 * np.exp(-0.5 * (distance / 1.2) ** 2)
    return hu.round()


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    row=st.integers(7, 22),
    column=st.integers(8, 25),
    number=st.integers(0, 3),
    off=st.tuples(*[st.floats(-0.5, 0.5)] * 2),
    downwards=st.booleans(),
    spacing=st.one_of(st.none(), st.floats(0.35, 0.9)),
)
@pytest.mark.parametrize("orientation", ORIENTATIONS.values(), ids=ORIENTATIONS)
def test_a_voxel_keeps_its_place(tmp_path, orientation, row, column, number, off, downwards, spacing):
    """Scans that lie and run in any direction, crops at any spacing, the nodule between voxels."""
    positions = [[-41.3, -30.7, -210.2 + 2.5 * (-z if downwards else z)] for z in range(4)]
    paths = write_series(tmp_path, mark(number, row, column), positions, orientation, SPACING)
    where = place(paths[number], row, column)
    crops._cached_series.cache_clear()
    crop = crops.cut(tmp_path, where + [*off, 0.9], SIZE, spacing)
    np.testing.assert_allclose(marked(crop), where, atol=TOLERANCE_MM)


def test_real_voxels_keep_their_places(real_series):
    """Any voxel of a crop holds what the original holds at the same place."""
    series, rng = open_series(real_series), np.random.default_rng(0)
    for index in rng.integers(0, len(series.paths), 4):
        item = pydicom.dcmread(series.paths[index])
        stored = item.pixel_array * float(item.RescaleSlope) + float(item.RescaleIntercept)
        row, column = (int(value) for value in rng.integers(60, 450, 2))
        crop = crops.cut(real_series, place(series.paths[index], row, column) + [0.2, -0.2, 0.4], 64)
        pixels = np.asarray(crop.dataobj)
        for voxel in rng.integers(0, 64, (20, 2)):
            position = (crop.affine @ [*voxel, 0, 1.0])[:3] * [-1, -1, 1]
            there = (
                np.linalg.inv(np.diag([*map(float, item.PixelSpacing[::-1])]))
                @ (position - np.array(item.ImagePositionPatient, float))[:2]
            )
            nearest = np.rint(there).astype(int)
            assert np.abs(place(series.paths[index], nearest[1], nearest[0]) - position).max() < TOLERANCE_MM
            assert pixels[voxel[0], voxel[1], 0] == np.clip(stored[nearest[1], nearest[0]], *crops.HU_RANGE)
