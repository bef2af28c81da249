"""Stored values to HU against arithmetic by hand and against SimpleITK (GDCM)."""

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK

from data_prep.errors import ImageError
from data_prep.images import crops
from data_prep.images.dicom import open_series
from tests.data_prep.helpers import stack, write_series

SHAPE = (40, 44)
CENTRE = (-40 + 0.6 * 22, -30 + 0.8 * 20, 102.0)
BODY = np.random.default_rng(2).normal(40, 60, SHAPE).round().clip(-200, 300)
BODY[8:32, 8:34] = np.random.default_rng(3).normal(-860, 40, (24, 26)).round()
BODY[17:23, 19:25] = 60
"""A slice with soft tissue about lung, and in its middle a nodule."""

CORNERS = np.hypot(*np.ogrid[-20:20, -22:22]) > 20
"""Outside the field of view."""


def written(folder, stored, signed=False, intercept=-1024, bits=16, high=None, **tags):
    """A series of three slices that hold these stored values."""

    def edit(number, item):
        item.PixelRepresentation, item.RescaleIntercept = int(signed), intercept
        item.BitsStored, item.HighBit = bits, bits - 1 if high is None else high
        item.PixelData = (np.asarray(stored).astype(np.int64) % 2**16).astype("<u2").tobytes()
        for tag, value in tags.items():
            item[tag] = pydicom.DataElement(
                pydicom.tag.Tag(tag), *(value if isinstance(value, tuple) else ("CS", value))
            )

    write_series(folder, np.zeros((3, *SHAPE)), stack(3), edit=edit)
    return folder


def read(folder):
    """HU of the middle slice, (rows, columns)."""
    return np.asarray(open_series(folder).read_slice(1).dataobj)[..., 0].T


def cropped(folder, spacing=None):
    crops._cached_series.cache_clear()
    return np.asarray(crops.cut(folder, CENTRE, 32, spacing).dataobj)[..., 0].T


def with_corners(values, padding):
    return np.where(CORNERS, padding, values)


PADDED = {
    "unsigned": (with_corners(BODY + 1024, 63536), {"PixelPaddingValue": ("US", 63536)}, {}),
    "signed": (with_corners(BODY + 1024, -2000), {"PixelPaddingValue": ("SS", -2000)}, {"signed": True}),
    "signed, told as unsigned": (
        with_corners(BODY + 1024, -2000),
        {"PixelPaddingValue": ("US", 63536)},
        {"signed": True},
    ),
    "beyond the stored bits": (with_corners(BODY + 1024, 63536), {"PixelPaddingValue": ("US", 63536)}, {"bits": 12}),
    "a range": (
        with_corners(BODY + 1024, np.arange(44)[None] + 5000),
        {"PixelPaddingValue": ("US", 5000), "PixelPaddingRangeLimit": ("US", 5100)},
        {},
    ),
    "a range downwards": (
        with_corners(BODY, np.arange(44)[None] - 2048),
        {"PixelPaddingValue": ("SS", -2000), "PixelPaddingRangeLimit": ("SS", -2048)},
        {"signed": True, "intercept": 0},
    ),
    "water's value": (with_corners(BODY, 0), {"PixelPaddingValue": ("SS", 0)}, {"signed": True, "intercept": 0}),
}


@pytest.mark.parametrize("spacing", [None, 1.1])
@pytest.mark.parametrize("case", PADDED)
def test_padding_is_air(tmp_path, case, spacing):
    """Also where a coarser grid averages over its edge: the same crop as of a slice whose corners are air."""
    stored, tags, options = PADDED[case]
    padded = cropped(written(tmp_path / "padded", stored, **options, **tags), spacing)
    outside = CORNERS | ((BODY == 0) if case == "water's value" else False)
    air = written(tmp_path / "air", np.where(outside, -1024, BODY) + 1024)
    np.testing.assert_array_equal(padded, cropped(air, spacing))
    assert (padded == -1024).sum() > 10 and padded[16, 16] == 60


def test_what_is_not_the_padding_value_stays(tmp_path):
    """12 bits of 63536 are 2096: a value of its own in the bits that are stored."""
    stored = BODY + 1024
    stored[20, 22] = 2096
    hu = read(written(tmp_path, stored, bits=12, PixelPaddingValue=("US", 63536)))
    assert hu[20, 22] == 1072 and np.isfinite(hu).all()


@pytest.mark.parametrize(
    ("stored", "options", "words"),
    [
        (with_corners(BODY + 1024, 63536), {}, "values to 62512, beyond any CT"),
        (BODY, {"intercept": 0}, "values to 6[0-9]+, beyond any CT: signed values stored as unsigned"),
        (BODY, {"signed": True}, "the intercept was added twice"),
        (with_corners(BODY, -2000), {"signed": True}, "the intercept was added twice"),
        (BODY.clip(-1024, -850), {"signed": True, "intercept": -1000}, "the intercept was added twice"),
        (BODY + 1024, {"RescaleType": ("LO", "Z_EFF")}, "by its RescaleType"),
    ],
)
def test_what_can_be_no_hu_is_refused(tmp_path, stored, options, words):
    with pytest.raises(ImageError, match=words) as caught:
        cropped(written(tmp_path, stored, **options))
    assert caught.value.fault == "not HU"


@pytest.mark.parametrize("padding", [-2000, -2048, -3024, -1024])
def test_padding_that_nobody_declared_is_low_and_no_fault(tmp_path, padding):
    crop = cropped(written(tmp_path, with_corners(BODY, padding), signed=True, intercept=0))
    np.testing.assert_array_equal(crop, with_corners(BODY, -1024)[4:36, 6:38])


@pytest.mark.parametrize("intercept", [-1024, -1000, 0])
def test_noise_below_air_is_no_fault(tmp_path, intercept):
    """A sharp kernel's, in a slice half of which is air."""
    hu = BODY.copy()
    hu[:20] = np.random.default_rng(5).normal(-1000, 90, (20, 44)).round()
    crop = cropped(written(tmp_path, hu - intercept, signed=True, intercept=intercept))
    np.testing.assert_array_equal(crop, hu.clip(-1024, None)[4:36, 6:38])


@pytest.mark.parametrize("signed", [False, True])
def test_bits_that_are_not_stored_are_not_read(tmp_path, signed):
    """Such as an overlay in the bits above, as old scanners wrote; GDCM masks them too."""
    overlay = np.random.default_rng(4).integers(0, 16, SHAPE) << 12
    low = (BODY + (0 if signed else 1024)).astype(np.int64) & 0xFFF
    folder = written(tmp_path, low | overlay, signed=signed, bits=12, intercept=0 if signed else -1024)
    np.testing.assert_array_equal(read(folder), BODY)
    itk = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(open_series(folder).paths[1])))[0]
    np.testing.assert_array_equal(itk, BODY)


def test_values_in_the_high_bits(tmp_path):
    """HighBit 15 of 12 bits: the value stands above four bits of nothing. Forgotten, it stands below; both, nowhere."""
    stored = (BODY + 1024).astype(np.int64)
    np.testing.assert_array_equal(read(written(tmp_path / "a", stored << 4, bits=12, high=15)), BODY)
    np.testing.assert_array_equal(read(written(tmp_path / "b", stored, bits=12, high=15)), BODY)
    with pytest.raises(ImageError, match="malformed HighBit"):
        read(written(tmp_path / "c", stored << 4 | 1, bits=12, high=15))


def test_coarse_values_are_named(tmp_path):
    with pytest.raises(ImageError, match="coarse HU: 8 bits in steps of 1 HU"):
        read(written(tmp_path / "a", BODY // 32 + 32, bits=8))
    with pytest.raises(ImageError, match="coarse HU: 16 bits in steps of 32 HU"):
        read(written(tmp_path / "b", BODY // 32 + 32, RescaleSlope=("DS", "32")))


@pytest.mark.parametrize(("told", "lossy"), [("01", True), ("00", False), (None, False)])
def test_loss_is_told_by_the_crop(tmp_path, told, lossy):
    """Whatever the pixels are stored as now: they may have been compressed before."""
    folder = written(tmp_path / "a", BODY + 1024, **({"LossyImageCompression": told} if told else {}))
    crops._cached_series.cache_clear()
    crop = crops.cut(folder, CENTRE, 16)
    crops.save(crop, tmp_path / "crop.nii.gz")
    assert crops.is_lossy(crop) == crops.is_lossy(tmp_path / "crop.nii.gz") == lossy


def nifti(path, hu):
    affine = np.diag([-0.6, -0.8, 2.0, 1.0])
    nib.save(nib.Nifti1Image(np.repeat(hu.T[..., None], 3, axis=2).astype(np.float32), affine), path)
    return path


@pytest.mark.parametrize("spacing", [None, 0.5, 1.1, 2.0])
@pytest.mark.parametrize("name", ["scan.nii.gz", "scan.mha"])
def test_no_value_outside_the_field_of_view_is_air(tmp_path, name, spacing):
    """It does not spread with the filter of a coarser grid, and does not become water."""
    paths = {}
    for kind, outside in (("nan", np.nan), ("air", -1024.0)):
        paths[kind] = tmp_path / kind / name
        paths[kind].parent.mkdir()
        hu = with_corners(BODY, outside)
        nifti(tmp_path / kind / "scan.nii.gz", hu)
        if name.endswith("mha"):  # not read by SimpleITK, whose reader of NIfTI makes 0 of NaN
            image = SimpleITK.GetImageFromArray(np.repeat(hu[None], 3, axis=0).astype(np.float32))
            image.SetSpacing((0.6, 0.8, 2.0))
            SimpleITK.WriteImage(image, str(paths[kind]))
    found, expected = (crops.cut(paths[kind], (13.2, 16.0, 2.0), 32, spacing) for kind in ("nan", "air"))
    np.testing.assert_array_equal(np.asarray(found.dataobj), np.asarray(expected.dataobj))
    assert np.ptp(np.asarray(found.dataobj)) > 900


def test_a_nodule_outside_the_field_of_view_is_refused(tmp_path):
    path = nifti(tmp_path / "scan.nii.gz", with_corners(BODY, np.nan))
    with pytest.raises(ImageError, match="nodule outside the field of view"):
        crops.cut(path, (1.0, 1.0, 2.0), 16)
    folder = written(tmp_path / "series", with_corners(BODY + 1024, 63536), PixelPaddingValue=("US", 63536))
    crops._cached_series.cache_clear()
    with pytest.raises(ImageError, match="nodule outside the field of view"):
        crops.cut(folder, (-39.0, -29.0, 102.0), 16)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_no_value_within_the_body_is_refused(tmp_path, value):
    hu = BODY.copy()
    hu[25, 20] = value
    with pytest.raises(ImageError, match="values not finite"):
        crops.cut(nifti(tmp_path / "scan.nii.gz", hu), (13.2, 16.0, 2.0), 32)
