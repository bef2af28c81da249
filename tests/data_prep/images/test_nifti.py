"""Where a NIfTI's header puts its voxels. References: SimpleITK, which has code of its own, and hand."""

import gzip

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from data_prep import datasheet
from data_prep.cohort import build
from data_prep.errors import ImageError
from data_prep.images import crops
from tests.data_prep.helpers import rows, write_table

STRAIGHT = np.array([[-0.7, 0, 0, 21], [0, -0.8, 0, 24], [0, 0, 2.0, -10], [0, 0, 0, 1.0]])
HU = np.random.default_rng(0).integers(-1000, 300, (60, 60, 10)).astype(np.int16)


def written(path, qform, sform, codes=(1, 1), units="mm"):
    image = nib.Nifti1Image(HU, None)
    image.header.set_xyzt_units(units)
    image.header.set_zooms(np.nan_to_num(np.linalg.norm((qform if sform is None else sform)[:3, :3], axis=0)))
    image.header.set_qform(qform, code=codes[0])
    image.header.set_sform(sform, code=codes[1])
    nib.save(nib.Nifti1Image(HU, None, image.header), path)
    stored = nib.load(path).header
    assert (int(stored["qform_code"]), int(stored["sform_code"])) == codes
    return path


def changed(change):
    other = STRAIGHT.copy()
    if change == "shifted":
        other[0, 3] += 12
    elif change == "flipped":
        other[0] *= -1
    elif change == "thicker":
        other[2, 2] = 2.5
    elif change == "half a millimetre":
        other[:3, 3] += 0.3
    elif change == "feet first":
        other[2] *= -1
    return other


CHANGES = ["shifted", "flipped", "thicker", "half a millimetre", "feet first"]
CENTRE = (-3.0, -2.1, -4.0)


@pytest.mark.parametrize("codes", [(1, 1), (1, 2), (2, 1), (1, 4)])
@pytest.mark.parametrize("change", CHANGES)
def test_two_geometries_are_refused(tmp_path, change, codes):
    path = written(tmp_path / "a.nii", STRAIGHT, changed(change), codes)
    with pytest.raises(ImageError, match=r"two geometries: qform and sform .* --transform") as caught:
        crops.cut(path, CENTRE, 16)
    assert caught.value.fault == "two geometries"


@pytest.mark.parametrize("change", CHANGES[:3])
def test_the_one_that_is_named_is_taken(tmp_path, change):
    """SimpleITK reads two files, each with one of the two geometries alone."""
    both = written(tmp_path / "both.nii", STRAIGHT, changed(change))
    alone = {
        "qform": written(tmp_path / "q.nii", STRAIGHT, None, (1, 0)),
        "sform": written(tmp_path / "s.nii", None, changed(change), (0, 1)),
    }
    for transform, path in alone.items():
        image = SimpleITK.ReadImage(str(path))
        x, y, z = image.TransformPhysicalPointToIndex(CENTRE)
        crop = crops.cut(both, CENTRE, 16, transform=transform)
        assert crop.get_fdata()[8, 8, 0] == SimpleITK.GetArrayFromImage(image)[z, y, x]
        np.testing.assert_array_equal(crop.get_fdata(), crops.cut(path, CENTRE, 16).get_fdata())
        np.testing.assert_allclose(crop.affine, crops.cut(path, CENTRE, 16).affine, atol=1e-4)


def test_what_agrees_is_taken_as_it_is(tmp_path):
    """Rounding of one of both to what a header in text keeps, and a transform that only one file of many needs."""
    rounded = STRAIGHT.round(3) + np.array([[1e-4, 0, 0, 2e-2]] * 3 + [[0] * 4])
    path = written(tmp_path / "a.nii", STRAIGHT, rounded)
    expected = crops.cut(written(tmp_path / "b.nii", None, rounded, (0, 1)), CENTRE, 16).get_fdata()
    np.testing.assert_array_equal(crops.cut(path, CENTRE, 16).get_fdata(), expected)
    np.testing.assert_array_equal(crops.cut(tmp_path / "b.nii", CENTRE, 16, transform="qform").get_fdata(), expected)


def test_a_crop_without_a_point_may_lie_anywhere_but_not_otherwise(tmp_path):
    path = written(tmp_path / "a.nii", STRAIGHT, changed("shifted"))
    np.testing.assert_array_equal(crops.cut(path, None, 16).get_fdata()[..., 0], HU[22:38, 22:38, 5])
    with pytest.raises(ImageError, match="two geometries"):
        crops.cut(written(tmp_path / "b.nii", STRAIGHT, changed("flipped")), None, 16)


@pytest.mark.parametrize(("units", "factor"), [("meter", 0.001), ("micron", 1000.0), ("mm", 1.0), ("unknown", 1.0)])
def test_the_unit_of_length_is_the_headers(tmp_path, units, factor):
    affine = np.diag([factor, factor, factor, 1.0]) @ STRAIGHT
    path = written(tmp_path / "a.nii", None, affine, (0, 1), units)
    crop = crops.cut(path, CENTRE, 16)
    image = SimpleITK.ReadImage(str(written(tmp_path / "b.nii", None, STRAIGHT, (0, 1))))
    x, y, z = image.TransformPhysicalPointToIndex(CENTRE)
    assert crop.get_fdata()[8, 8, 0] == SimpleITK.GetArrayFromImage(image)[z, y, x]
    np.testing.assert_allclose(crops.spacing(crop), (0.7, 0.8, 2.0), atol=1e-4)


@pytest.mark.parametrize("affine", [np.diag([0.0, 0, 0, 1]), np.diag([np.nan, 1, 1, 1]), np.diag([-1.0, -1, 0, 1])])
def test_a_geometry_without_extent_is_refused(tmp_path, affine):
    with pytest.raises(ImageError, match="no orientation"):
        crops.cut(written(tmp_path / "a.nii", None, affine, (0, 1)), CENTRE, 16)


@pytest.mark.parametrize("dtype", [np.complex64, [("R", "u1"), ("G", "u1"), ("B", "u1")]])
def test_values_that_are_no_numbers_are_refused(tmp_path, dtype):
    nib.save(nib.Nifti1Image(np.zeros((20, 20, 3), dtype), STRAIGHT), tmp_path / "a.nii")
    with pytest.raises(ImageError, match="no grey values"):
        crops.cut(tmp_path / "a.nii", CENTRE, 16)


def test_the_command_line_asks_and_takes_the_answer(tmp_path, call, monkeypatch):
    monkeypatch.setattr(datasheet, "write", lambda *_: None)
    for number in range(2):
        written(tmp_path / f"{number}.nii", STRAIGHT, changed("flipped"))
    table = write_table(
        tmp_path,
        [rows(study_yr=n, image=f"{n}.nii", **dict(zip("xyz", CENTRE, strict=True))) for n in range(2)],
    )
    code, shown = call("cohort", table, "--out", tmp_path / "out", "--size", 16)
    assert code == 2 and "two geometries" in shown.err and "--transform" in shown.err
    given = "--size", 16, "--spacing", "none", "--keep-ids", "--transform", "qform"
    assert call("cohort", table, "--out", tmp_path / "out", *given)[0] == 0
    by_qform = np.asarray(nib.load(tmp_path / "out" / "crops" / "P1_1_T0.nii.gz").dataobj)
    np.testing.assert_array_equal(by_qform, crops.cut(tmp_path / "0.nii", CENTRE, 16, transform="qform").dataobj)
    again = build(table, tmp_path / "out", size=16, spacing=None, keep_ids=True, transform="sform")
    assert again.written == 2 and again.reused == 0


@pytest.mark.parametrize(
    ("shape", "mm"), [((512, 512, 3), 0.7), ((512, 512), 0.68), ((300, 80, 3), 0.8), ((64, 64, 40), 5.0)]
)
def test_a_whole_scan_without_a_point_is_no_crop(tmp_path, shape, mm):
    nib.save(nib.Nifti1Image(np.zeros(shape, np.int16), np.diag([-mm, -mm, 2.0, 1.0])), tmp_path / "a.nii.gz")
    with pytest.raises(ImageError, match=r"no x, y, z: and \d+ mm wide, as a whole scan is") as caught:
        crops.cut(tmp_path / "a.nii.gz", None, 16)
    assert "columns x, y, z" in caught.value.reason


@pytest.mark.parametrize(("shape", "mm"), [((150, 150, 1), 0.5), ((256, 256, 60), 0.7), ((45, 45), 0.5)])
def test_a_crop_may_be_large(tmp_path, shape, mm):
    nib.save(nib.Nifti1Image(np.full(shape, -800, np.int16), np.diag([-mm, -mm, 2.0, 1.0])), tmp_path / "a.nii.gz")
    assert crops.cut(tmp_path / "a.nii.gz", None, 16).shape == (16, 16, 1)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("length", [0, 3, 100, 347, 350, 400])
def test_a_file_that_ends_early_is_named(tmp_path, suffix, length):
    """Within the header too; packed, the file itself is whole."""
    content = written(tmp_path / "whole.nii", None, STRAIGHT, (0, 1)).read_bytes()[:length]
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(gzip.compress(content) if suffix.endswith(".gz") else content)
    with pytest.raises(ImageError, match="unreadable NIfTI"):
        crops.cut(path, (0.0, 0.0, 0.0), 16)
