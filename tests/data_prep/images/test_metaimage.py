"""MetaImage against NIfTI of the same volume, both written by SimpleITK or nibabel, not by us."""

import sys

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from data_prep.errors import ImageError
from data_prep.images import crops
from data_prep.sources import convert
from tests.data_prep.helpers import bytes_read

CENTRE = (-12.0, 31.0, -63.0)


def volume(path, codes="LPS", shape=(40, 36, 20)):
    """A NIfTI of noise, its axes in this orientation."""
    hu = np.random.default_rng(3).integers(-1000, 400, shape, dtype=np.int16)
    affine = np.diag([-0.7, -0.8, 2.5, 1.0])
    affine[:3, 3] = (26.0, -17.0, -88.0)
    image = nib.Nifti1Image(hu, affine)
    turn = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("LPS"), nib.orientations.axcodes2ornt(tuple(codes))
    )
    nib.save(image.as_reoriented(turn), path)
    return path


@pytest.mark.parametrize("codes", ["LPS", "RAS", "LAI", "SLP", "PIR"])
@pytest.mark.parametrize(("ending", "compressed"), [("mha", False), ("mha", True), ("mhd", False), ("mhd", True)])
def test_crop_of_a_metaimage_is_that_of_the_nifti(tmp_path, codes, ending, compressed):
    nifti = volume(tmp_path / "scan.nii.gz", codes)
    path = tmp_path / f"scan.{ending}"
    SimpleITK.WriteImage(SimpleITK.ReadImage(str(nifti)), str(path), useCompression=compressed)
    for centre, spacing in ((CENTRE, None), (CENTRE, 0.5), (None, None)):
        expected, found = (crops.cut(each, centre, 24, spacing) for each in (nifti, path))
        assert np.ptp(np.asarray(expected.dataobj)) > 500
        np.testing.assert_array_equal(np.asarray(found.dataobj), np.asarray(expected.dataobj))
        np.testing.assert_allclose(found.affine, expected.affine, atol=1e-4)


def test_only_the_wanted_slice_is_read(tmp_path):
    nifti = volume(tmp_path / "scan.nii.gz", shape=(128, 128, 150))
    path = tmp_path / "scan.mha"
    SimpleITK.WriteImage(SimpleITK.ReadImage(str(nifti)), str(path), useCompression=False)

    crops.cut(path, None, 24)  # imports
    before = bytes_read()
    crops.cut(path, None, 24)
    assert bytes_read() - before < 0.05 * path.stat().st_size


def test_what_cannot_be_read_is_told(tmp_path, monkeypatch):
    broken = tmp_path / "broken.mha"
    broken.write_text("NDims = 3\nDimSize = 4 4")
    with pytest.raises(ImageError, match="broken.mha: unreadable MetaImage: fetch it again"):
        crops.cut(broken, CENTRE, 24)
    path = tmp_path / "scan.mha"
    SimpleITK.WriteImage(SimpleITK.ReadImage(str(volume(tmp_path / "scan.nii.gz"))), str(path))
    with pytest.raises(ImageError, match="nodule outside the scan"):
        crops.cut(path, (500.0, 0.0, 0.0), 24)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ImageError, match="unreadable MetaImage"):
        crops.cut(path, CENTRE, 24)
    for shape in ([4, 4], [4, 4, 4, 2]):
        SimpleITK.WriteImage(SimpleITK.Image(shape, SimpleITK.sitkInt16), str(tmp_path / "other.mha"))
        with pytest.raises(ImageError, match="not three dimensions"):
            crops.cut(tmp_path / "other.mha", CENTRE, 24)
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    with pytest.raises(ImageError, match="pip install SimpleITK"):
        crops.cut(path, CENTRE, 24)


def test_luna_finds_its_own_files(tmp_path):
    (tmp_path / "images").mkdir()
    image = SimpleITK.ReadImage(str(volume(tmp_path / "scan.nii.gz")))
    SimpleITK.WriteImage(image, str(tmp_path / "images" / "1.2.840.7.mhd"))
    annotations = tmp_path / "annotations.csv"
    annotations.write_text("seriesuid,coordX,coordY,coordZ,diameter_mm\n1.2.840.7,-12,31,-63,6.5\n")
    assert convert("luna16", annotations, tmp_path / "cohort.csv", tmp_path / "images")["taken"] == 1
    assert "images/1.2.840.7.mhd" in (tmp_path / "cohort.csv").read_text()


def test_a_spacing_that_is_not_told_is_not_made_up(tmp_path):
    """SimpleITK would take 1 mm."""
    path = tmp_path / "scan.mhd"
    SimpleITK.WriteImage(SimpleITK.ReadImage(str(volume(tmp_path / "scan.nii.gz"))), str(path))
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if not line.startswith("ElementSpacing")))
    assert SimpleITK.ReadImage(str(path)).GetSpacing() == (1.0, 1.0, 1.0)
    for centre in (CENTRE, None):
        with pytest.raises(ImageError, match="missing ElementSpacing"):
            crops.cut(path, centre, 24)
    path.write_text("".join(line.replace("ElementSpacing", "ElementSize") for line in lines))
    assert crops.cut(path, CENTRE, 24).shape == (24, 24, 1)
