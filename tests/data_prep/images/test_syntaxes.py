"""One real CT slice in fifteen transfer syntaxes, by others' writers: lossless ones are equal, the others are told."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK

from data_prep.errors import ImageError
from data_prep.images import crops
from data_prep.images.dicom import open_series

NAME = "CTImage.dcm"
LOSSLESS = ("1.2.1", "1.2.2", "1.2.1.99", "1.2.5", "1.2.4.57", "1.2.4.70", "1.2.4.80", "1.2.4.90")
LOSSY = {"1.2.4.51": 40, "1.2.4.53": 40, "1.2.4.55": 40, "1.2.4.81": 40, "1.2.4.91": 40}
"""And the greatest difference from the original, HU."""


@pytest.fixture
def slices(shared_data: Path) -> Path:
    folder = shared_data / "dicom" / "syntaxes"
    if not folder.is_dir():
        pytest.skip("no dicom/syntaxes in the shared data")
    return folder


def alone(folder: Path, path: Path) -> Path:
    """A folder with one file, as links of a name of its own."""
    (folder / path.name).mkdir(parents=True)
    (folder / path.name / "1").symlink_to(path)
    return folder / path.name


def hu(folder: Path, path: Path) -> np.ndarray:
    return np.asarray(open_series(alone(folder, path)).read_slice(0).dataobj)[..., 0].T


def middle(folder: Path) -> np.ndarray:
    series = open_series(folder)
    return series.origins[0] + series.axes @ (np.array([*series.shape, 0]) // 2 * series.spacing)


def stored_as(slices: Path, syntax: str) -> Path:
    (path,) = slices.glob(f"{NAME}_*_1.2.840.10008.{syntax}.dcm")
    assert pydicom.dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID == f"1.2.840.10008.{syntax}"
    return path


def plain(slices: Path) -> np.ndarray:
    """The original's HU by arithmetic on its last bytes."""
    item = pydicom.dcmread(slices / NAME)
    raw = np.frombuffer((slices / NAME).read_bytes()[-2 * 512 * 512 :], "<i2").reshape(512, 512).astype(float)
    values = raw * float(item.RescaleSlope) + float(item.RescaleIntercept)
    return np.where(raw == item.PixelPaddingValue, np.nan, values) if "PixelPaddingValue" in item else values


@pytest.mark.parametrize("syntax", LOSSLESS)
def test_lossless_syntaxes_are_equal(slices: Path, tmp_path: Path, syntax: str) -> None:
    path = stored_as(slices, syntax)
    np.testing.assert_array_equal(hu(tmp_path, path), plain(slices))
    folder = alone(tmp_path / "crop", path)
    assert not crops.is_lossy(crops.cut(folder, middle(folder), 64))


@pytest.mark.parametrize("syntax", LOSSY)
def test_lossy_syntaxes_are_told(slices: Path, tmp_path: Path, syntax: str) -> None:
    path = stored_as(slices, syntax)
    assert pydicom.dcmread(path, stop_before_pixels=True).LossyImageCompression == "01"
    difference = np.abs(hu(tmp_path, path) - plain(slices))
    assert 0 < np.nanmax(difference) <= LOSSY[syntax]
    folder = alone(tmp_path / "crop", path)
    assert crops.is_lossy(crops.cut(folder, middle(folder), 64))


def test_eight_bits_are_named(slices: Path, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="coarse HU: 8 bits in steps of [0-9.]+ HU"):
        hu(tmp_path, stored_as(slices, "1.2.4.50"))


def test_loss_before_and_other_writers(slices: Path, tmp_path: Path) -> None:
    """Uncompressed again, loss still shows in the header; two vendors' JPEG 2000, one of them under VR UN."""
    for name, lossy in (("693_UNCR.dcm", False), ("693_J2KR.dcm", False), ("693_UNCI.dcm", True)):
        item = pydicom.dcmread(slices / name)
        item.GantryDetectorTilt, item.ImageOrientationPatient = 0, [1, 0, 0, 0, 1, 0]  # heads are scanned tilted
        (tmp_path / name).mkdir()
        item.save_as(tmp_path / name / "1.dcm")
        assert crops.is_lossy(crops.cut(tmp_path / name, middle(tmp_path / name), 64)) == lossy
    pixels = {
        name: np.asarray(open_series(tmp_path / name).read_slice(0).dataobj)
        for name in ("693_UNCR.dcm", "693_J2KR.dcm")
    }
    np.testing.assert_array_equal(*pixels.values())
    for name in ("CT1_J2KR", "CT2_J2KR", "explicit_VR-UN.dcm"):
        found = hu(tmp_path, slices / name)
        expected = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(slices / name)))[0].astype(float)
        np.testing.assert_array_equal(found[np.isfinite(found)], expected[np.isfinite(found)])
        assert np.isfinite(found).mean() > 0.5


def test_two_enhanced_files_of_one_series_are_both_reported(slices: Path, tmp_path: Path) -> None:
    names = ("eCT_Supplemental.dcm", "CT0012.fragmented_no_bot_jpeg_baseline.51.dcm")
    uid = pydicom.dcmread(slices / names[0], stop_before_pixels=True).SeriesInstanceUID
    for number, name in enumerate(names):
        item = pydicom.dcmread(slices / name)
        item.SeriesInstanceUID = uid
        item.save_as(tmp_path / f"{number}.dcm")
    with pytest.raises(ImageError, match="multi-frame: 2 of 2 files") as caught:
        open_series(tmp_path)
    assert "0.dcm, 1.dcm" in str(caught.value) and "0.dcm" not in caught.value.reason
