"""The panel as it is, and a slice that says SYNTHETIC where nothing was generated."""

import numpy as np
import pytest
from PIL import Image

from data_prep.errors import DataError
from data_prep.single import cut_single
from deploy.dicom_out import open_source
from deploy.dicom_out.made import Made
from deploy.dicom_out.pictures import ct_slice
from tests.deploy.results import write_samples
from tests.deploy.scans import POINT, ramp, write_ramp


def test_the_panel_is_the_picture(objects):
    item = objects.read("panel")
    picture = Image.open(objects.case_dir / "panel.png").convert("RGB")
    assert np.array_equal(item.pixel_array, np.asarray(picture))
    assert (item.PhotometricInterpretation, item.Modality) == ("RGB", "OT")


def test_the_slice_is_the_scans_but_for_the_crop_and_the_letters(objects):
    item, source = objects.read("slice"), objects.slice()
    for keyword in ("Rows", "Columns", "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient"):
        assert item[keyword].value == source[keyword].value
    assert item.Modality == "CT" and item.SeriesInstanceUID != source.SeriesInstanceUID
    before = source.pixel_array.astype(int) + int(source.RescaleIntercept)
    now = item.pixel_array.astype(int)
    changed, inside = before != now, objects.read("replaced").pixel_array.astype(bool)
    rows, columns = np.nonzero(changed & ~inside)
    assert rows.min() >= 0 and rows.max() < 20 and len(rows) > 200  # the letters, at the top
    letters = now[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    assert (letters == 3071).sum() > 100 and set(np.unique(letters)) <= {-1024, 3071, -1000}
    assert np.abs(now - before)[inside].max() <= 60 and (now - before)[inside].mean() == pytest.approx(3, abs=1)


@pytest.mark.parametrize("orientation", [(1, 0, 0, 0, 1, 0), (0, 1, 0, -1, 0, 0)])
def test_generated_pixels_lie_where_they_belong(tmp_path, orientation):
    """The typical run is 3 HU above the slice, whose HU say where they lie."""
    centre = (10.0, -20.0, 102.0)
    series = write_ramp(tmp_path / "series", orientation)
    write_samples(tmp_path / "nodule", series, centre, 32)
    source = open_source(series, centre)
    made = Made(tmp_path / "nodule", "key")
    now = ct_slice(source, made).pixel_array
    inside = np.isfinite(source.within(made.affine, (32, 32))[0]).T
    known = np.asarray(source.hu.dataobj)[..., 0].T
    assert np.abs(now - known - 3)[inside].max() <= 2.1 and inside.sum() > 400  # the outer half pixel has no neighbour
    assert np.ptp(ramp(*np.array([[0, 16], [0, 16]]))) > 100


def test_letters_that_would_hide_the_follow_up_are_refused(objects):
    source = open_source(objects.series, POINT)
    made = Made(objects.case_dir, "key")
    wide = np.diag([-8.0, -8.0, 2.0, 1.0])
    wide[:3, 3] = made.affine[:3, 3] + [250, 250, 0]
    made.__dict__.update(_image=type("Image", (), {"affine": wide, "dataobj": np.zeros((64, 64, 1, 2))})())
    with pytest.raises(DataError, match="no room for SYNTHETIC"):
        ct_slice(source, made)


def test_the_slice_is_no_scan_to_us(objects, tmp_path):
    """Given back as a scan, it is refused by the mark of its letters."""
    (tmp_path / "slice.dcm").write_bytes((objects.folder / "slice.dcm").read_bytes())
    with pytest.raises(DataError, match="burned-in annotation"):
        cut_single(tmp_path, POINT)
