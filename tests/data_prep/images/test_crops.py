import nibabel as nib
import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.interpolate import RegularGridInterpolator

from data_prep.errors import DataError
from data_prep.images import crops
from tests.data_prep.helpers import stack, write_series

SIZE = 16


def nifti(path, array, affine):
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


def lps(image, voxel):
    """Millimetres, LPS, of a voxel."""
    return (image.affine @ [*voxel, 1.0])[:3] * [-1, -1, 1]


def test_dicom_crop_equals_pydicom_and_numpy(tmp_path):
    hu = np.random.default_rng(0).integers(-1000, 400, (5, 60, 70))
    paths = write_series(tmp_path / "series", hu, stack(5))
    centre = (-40.0 + 0.6 * 33.2, -30.0 + 0.8 * 25.7, 105.1)
    crop = crops.cut(tmp_path / "series", centre, SIZE)

    slices = [pydicom.dcmread(path) for path in paths]
    nearest = min(slices, key=lambda item: abs(item.ImagePositionPatient[2] - centre[2]))
    column = round((centre[0] - nearest.ImagePositionPatient[0]) / nearest.PixelSpacing[1])
    row = round((centre[1] - nearest.ImagePositionPatient[1]) / nearest.PixelSpacing[0])
    expected = nearest.pixel_array[row - 8 : row + 8, column - 8 : column + 8].astype(int) - 1024
    np.testing.assert_array_equal(np.asarray(crop.dataobj)[..., 0].T, expected)
    np.testing.assert_allclose(np.diag(crop.affine), [-0.6, -0.8, 2.0, 1.0])
    assert crop.get_data_dtype() == np.int16 and crop.shape == (SIZE, SIZE, 1)
    where = [
        nearest.ImagePositionPatient[0] + column * 0.6,
        nearest.ImagePositionPatient[1] + row * 0.8,
        nearest.ImagePositionPatient[2],
    ]
    np.testing.assert_allclose(lps(crop, (8, 8, 0)), where, atol=1e-4)


ORIENTATIONS = ["LPS", "RAS", "LAS", "RPI", "SPL", "ASR", "PIR"]


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_every_orientation_gives_the_same_crop(tmp_path, codes):
    """A volume stored in any order and direction of axes is cut as the same one in LPS."""
    rng = np.random.default_rng(1)
    straight = nib.Nifti1Image(
        rng.integers(-1000, 400, (40, 36, 9)).astype(np.int16),
        np.array([[-0.7, 0, 0, 12], [0, -0.8, 0, 30], [0, 0, 2.5, -50], [0, 0, 0, 1.0]]),
    )
    turned = straight.as_reoriented(
        nib.orientations.ornt_transform(
            nib.orientations.io_orientation(straight.affine), nib.orientations.axcodes2ornt(codes)
        )
    )
    path = nifti(tmp_path / "image.nii.gz", np.asarray(turned.dataobj), turned.affine)
    centre = lps(straight, (21, 17, 4))
    crop = crops.cut(path, centre, SIZE)
    np.testing.assert_array_equal(np.asarray(crop.dataobj)[..., 0], np.asarray(straight.dataobj)[13:29, 9:25, 4])
    np.testing.assert_allclose(lps(crop, (8, 8, 0)), centre, atol=1e-4)
    assert nib.aff2axcodes(crop.affine) == ("L", "P", "S")


def test_prone_scan_is_turned_round(tmp_path):
    hu = np.random.default_rng(2).integers(-1000, 400, (3, 40, 40))
    write_series(tmp_path / "prone", hu, stack(3), orientation=(-1, 0, 0, 0, -1, 0))
    write_series(tmp_path / "supine", hu[:, ::-1, ::-1], stack(3, origin=(-40 - 39 * 0.6, -30 - 39 * 0.8, 100)))
    centre = (-50.0, -45.0, 102.0)
    prone, supine = (crops.cut(tmp_path / name, centre, SIZE) for name in ("prone", "supine"))
    np.testing.assert_array_equal(np.asarray(prone.dataobj), np.asarray(supine.dataobj))
    np.testing.assert_allclose(prone.affine, supine.affine, atol=1e-5)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    column=st.floats(0.0, 39.0),
    row=st.floats(0.0, 35.0),
    spacing=st.one_of(st.none(), st.floats(0.3, 0.7)),
    flip=st.booleans(),
)
def test_each_pixel_shows_its_own_place(tmp_path, column, row, spacing, flip):
    """The image holds its own coordinates, so every pixel of a crop must hold where its affine says it is."""
    affine = np.diag([0.7 if flip else -0.7, -0.8, 2.0, 1.0])
    x = affine[0, 0] * np.arange(40)
    path = nifti(
        tmp_path / f"{flip}.nii", np.broadcast_to(10 * x[:, None, None], (40, 36, 3)).astype(np.float32), affine
    )
    crop = crops.cut(path, (-affine[0, 0] * column, 0.8 * row, 2.0), SIZE, spacing)
    values = np.asarray(crop.dataobj)[..., 0]
    places = crop.affine[0, 0] * np.arange(SIZE) + crop.affine[0, 3]
    inside = values > crops.AIR
    expected = np.broadcast_to(10 * places[:, None], values.shape)
    # HU are whole numbers; beyond the edge there is air, and no pixel of the image has that value. Splines are level at
    # an edge, as if the image were mirrored there; the slope is 7 HU a pixel.
    at_edge = np.minimum(np.abs(expected), np.abs(expected - 10 * x[-1])) < 10 * 6 * 0.7
    apart = np.abs(values - expected)[inside]
    assert apart[~at_edge[inside]].max(initial=0) <= 0.51 and apart.max() <= (0.51 if spacing is None else 2.0)
    assert inside[SIZE // 2, SIZE // 2] or spacing is not None
    if spacing is not None:
        np.testing.assert_allclose(np.diag(crop.affine)[:2], [-spacing, -spacing], rtol=1e-5)


def test_pixels_of_the_wanted_size_stay_as_they_are(tmp_path):
    """To a thousandth, by which headers are rounded."""
    hu = np.random.default_rng(3).integers(-1000, 400, (50, 50, 1)).astype(np.int16)
    for mm in (0.5, 0.5002, 0.4998):
        path = nifti(tmp_path / "a.nii", hu, np.diag([-mm, -mm, 1.0, 1.0]))
        for centre in ((12.3, 13.1, 0.0), None):
            crop, same = (crops.cut(path, centre, SIZE, spacing) for spacing in (0.5, None))
            np.testing.assert_array_equal(np.asarray(crop.dataobj), np.asarray(same.dataobj))
            np.testing.assert_array_equal(crop.affine, same.affine)


def test_resampling_equals_scipys_interpolator(tmp_path):
    hu = np.random.default_rng(3).integers(-1000, 400, (50, 50, 1)).astype(np.int16)
    path = nifti(tmp_path / "a.nii", hu, np.diag([-0.7, -0.7, 1.0, 1.0]))
    crop = crops.cut(path, (17.3, 16.1, 0.0), SIZE, spacing=0.5)
    axes = 0.7 * np.arange(50), 0.7 * np.arange(50)
    look_up = RegularGridInterpolator(axes, hu[..., 0].astype(float), method="cubic")
    grid = np.stack(
        np.meshgrid(17.3 + 0.5 * (np.arange(16) - 8), 16.1 + 0.5 * (np.arange(16) - 8), indexing="ij"), axis=-1
    )
    np.testing.assert_allclose(np.asarray(crop.dataobj)[..., 0], look_up(grid).clip(*crops.HU_RANGE), atol=0.51)


def test_air_beyond_a_scan_and_mirror_beyond_a_crop(tmp_path):
    hu = np.random.default_rng(4).integers(-800, 400, (11, 9)).astype(np.int16)
    path = nifti(tmp_path / "a.nii.gz", hu[..., None], np.diag([-0.5, -0.5, 1.0, 1.0]))
    scan = np.asarray(crops.cut(path, (2.5, 2.0, 0.0), SIZE).dataobj)[..., 0]
    assert (scan[:3] == crops.AIR).all() and (scan[:, -3:] == crops.AIR).all()
    np.testing.assert_array_equal(scan[3:14, 4:13], hu)
    crop = np.asarray(crops.cut(path, None, SIZE).dataobj)[..., 0]
    np.testing.assert_array_equal(crop, np.pad(hu, ((3, 2), (4, 3)), mode="reflect"))


def test_scalar_slope_and_two_dimensional_images(tmp_path):
    image = nib.Nifti1Image(np.full((20, 20), 100, dtype=np.int16), np.diag([-0.5, -0.5, 1.0, 1.0]))
    image.header.set_slope_inter(2.0, -1024.0)
    nib.save(image, tmp_path / "a.nii")
    stored = nib.load(tmp_path / "a.nii").get_fdata()[0, 0]
    assert (np.asarray(crops.cut(tmp_path / "a.nii", None, SIZE).dataobj) == round(stored)).all()


def test_only_the_wanted_slice_of_a_volume_is_read(tmp_path, monkeypatch):
    path = nifti(tmp_path / "a.nii", np.zeros((20, 20, 30), dtype=np.int16), np.diag([-0.5, -0.5, 1.0, 1.0]))
    proxy, asked = nib.arrayproxy.ArrayProxy, []
    plain = proxy.__getitem__
    monkeypatch.setattr(proxy, "__getitem__", lambda self, key: asked.append(key) or plain(self, key))
    monkeypatch.setattr(proxy, "__array__", lambda *_: pytest.fail("the whole volume was read"))
    crops.cut(path, (5.0, 5.0, 12.2), SIZE)
    assert [key[2] for key in asked] == [slice(12, 13, None)]


@pytest.mark.parametrize(
    ("affine", "words"),
    [
        (np.array([[0.9, 0.3, 0, 0], [-0.3, 0.9, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), "oblique"),
        (None, "no orientation"),
    ],
)
def test_nifti_that_is_refused(tmp_path, affine, words):
    path = nifti(tmp_path / "a.nii", np.zeros((20, 20, 3), dtype=np.int16), affine)
    with pytest.raises(DataError, match=words):
        crops.cut(path, (1.0, 1.0, 1.0), SIZE)


def test_nodule_outside_a_nifti_and_broken_file(tmp_path):
    path = nifti(tmp_path / "a.nii.gz", np.zeros((20, 20, 3), dtype=np.int16), np.diag([-1.0, -1.0, 1.0, 1.0]))
    with pytest.raises(DataError, match="outside the scan"):
        crops.cut(path, (-5.0, 1.0, 1.0), SIZE)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DataError, match="unreadable NIfTI"):
        crops.cut(path, (1.0, 1.0, 1.0), SIZE)
    with pytest.raises(DataError, match="no x, y, z"):
        crops.cut(tmp_path, None, SIZE)


def test_values_are_kept_to_twelve_bits(tmp_path):
    path = nifti(
        tmp_path / "a.nii", np.array([[-2000, 30000], [0, 1]], dtype=np.int16), np.diag([-1.0, -1.0, 1.0, 1.0])
    )
    values = np.asarray(crops.cut(path, None, 2).dataobj)
    assert values.min() == -1024 and values.max() == 3071


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused_about_the_nodule_alone(tmp_path, value):
    """Some exports have NaN outside the scanner's field of view; as whole numbers they would become 0 HU."""
    pixels = np.full((60, 60, 1), -800, np.float32)
    pixels[0, 0] = value
    path = nifti(tmp_path / "a.nii", pixels, np.diag([-1.0, -1.0, 1.0, 1.0]))
    assert np.all(np.asarray(crops.cut(path, None, 16).dataobj) == -800)
    with pytest.raises(DataError, match="values not finite"):
        crops.cut(path, (2.0, 2.0, 0.0), 16)
