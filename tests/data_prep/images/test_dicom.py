import numpy as np
import pydicom
import pytest

from data_prep.errors import DataError
from data_prep.images.dicom import open_series
from tests.data_prep.helpers import stack, write_series

HU = np.random.default_rng(0).integers(-1000, 400, (5, 20, 24))


def refused(folder, words):
    with pytest.raises(DataError, match=words) as caught:
        open_series(folder)
    assert str(folder) in str(caught.value)


def test_slices_are_sorted_by_position_not_by_name(tmp_path):
    write_series(tmp_path, HU, stack(5)[::-1])
    series = open_series(tmp_path)
    assert series.origins[:, 2].tolist() == [100.0, 102.0, 104.0, 106.0, 108.0]
    assert series.spacing == (0.6, 0.8, 2.0)
    np.testing.assert_array_equal(np.asarray(series.read_slice(0).dataobj)[..., 0], HU[4].T)


def test_only_the_wanted_slice_has_its_pixels_read(tmp_path, monkeypatch):
    write_series(tmp_path, HU, stack(5))
    whole, decoded, read = [], [], pydicom.dcmread
    plain = pydicom.dataset.Dataset.pixel_array.fget

    def spy(path, *arguments, **options):
        if not options.get("stop_before_pixels"):
            whole.append(path)
        return read(path, *arguments, **options)

    monkeypatch.setattr(pydicom, "dcmread", spy)
    monkeypatch.setattr(
        pydicom.dataset.Dataset, "pixel_array", property(lambda self: decoded.append(1) or plain(self)), raising=True
    )
    series = open_series(tmp_path)
    assert not whole
    series.read_slice(series.nearest_slice((-38.0, -28.0, 104.4)))
    assert whole == [series.paths[2]] and len(decoded) == 1


def test_empty_folder(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    refused(tmp_path, "no DICOM files")


def test_several_series(tmp_path):
    write_series(tmp_path, HU, stack(5))
    write_series(tmp_path / "other", HU, stack(5))
    (tmp_path / "other" / "000.dcm").rename(tmp_path / "x.dcm")
    refused(tmp_path, "several series: 2")


@pytest.mark.parametrize("tag", ["RescaleSlope", "RescaleIntercept", "ImagePositionPatient", "PixelSpacing", "Rows"])
def test_missing_tag(tmp_path, tag):
    write_series(tmp_path, HU, stack(5), edit=lambda number, item: delattr(item, tag) if number == 3 else None)
    refused(tmp_path, f"missing {tag}")


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda number, item: setattr(item, "Modality", "PT"), "not CT"),
        (lambda number, item: setattr(item, "ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"]), "localizer"),
        (lambda number, item: setattr(item, "NumberOfFrames", 2), "multi-frame"),
        (lambda number, item: setattr(item, "GantryDetectorTilt", 12.0), "gantry tilt"),
        (lambda number, item: setattr(item, "BurnedInAnnotation", "YES"), "burned-in annotation"),
        (lambda number, item: setattr(item, "PixelSpacing", [0.8, 0.6 + 0.1 * number]), "mixed PixelSpacing"),
        (
            lambda number, item: setattr(item, "ImageOrientationPatient", [1, 0, 0, 0, 1 - 2 * (number == 2), 0]),
            "mixed ImageOrientationPatient",
        ),
    ],
)
def test_headers_that_are_refused(tmp_path, edit, words):
    write_series(tmp_path, HU, stack(5), edit=edit)
    refused(tmp_path, words)


def test_missing_slices(tmp_path):
    positions = stack(7)
    write_series(tmp_path, HU, positions[:2] + positions[4:])
    refused(tmp_path, "missing slices: 2, the first after z = 102 mm")


def test_duplicate_slices(tmp_path):
    positions = stack(5)
    positions[3] = positions[2]
    write_series(tmp_path, HU, positions)
    refused(tmp_path, "duplicate slices")


def test_mixed_slice_spacing(tmp_path):
    positions = stack(5)
    positions[4][2] += 0.9
    write_series(tmp_path, HU, positions)
    refused(tmp_path, "mixed slice spacing")


def test_sheared_stack_is_gantry_tilt(tmp_path):
    write_series(tmp_path, HU, [[x, y + 0.3 * number, z] for number, (x, y, z) in enumerate(stack(5))])
    refused(tmp_path, "gantry tilt")


@pytest.mark.parametrize(
    ("orientation", "words"),
    [
        ((1, 0, 0, 0, 0, -1), "non-axial"),
        ((0, 1, 0, 0, 0, -1), "non-axial"),
        ((1, 0, 0, 0, np.cos(0.2), np.sin(0.2)), "gantry tilt: or oblique"),
        ((np.cos(0.2), np.sin(0.2), 0, -np.sin(0.2), np.cos(0.2), 0), "rotated"),
    ],
)
def test_orientations_that_are_refused(tmp_path, orientation, words):
    write_series(tmp_path, HU, stack(5), orientation=[round(float(value), 6) for value in orientation])
    refused(tmp_path, words)


OUTSIDE = [(-38.0, -28.0, 98.9), (-38.0, -28.0, 109.1), (-41.0, -28.0, 104.0), (0.0, 99.0, 104.0)]


@pytest.mark.parametrize("centre", OUTSIDE)
def test_nodule_outside_the_scan(tmp_path, centre):
    write_series(tmp_path, HU, stack(5))
    with pytest.raises(DataError, match="nodule outside the scan"):
        open_series(tmp_path).nearest_slice(centre)


@pytest.mark.parametrize("slice_number", [1, 3])
def test_truncated_file(tmp_path, slice_number):
    """Any slice, not only the one that is wanted: who has half a series should know."""
    paths = write_series(tmp_path, HU, stack(5))
    content = paths[slice_number].read_bytes()
    paths[slice_number].write_bytes(content[: len(content) - 300])
    refused(tmp_path, "truncated file")


def test_real_series(real_series):
    series = open_series(real_series)
    assert len(series.paths) == len(list(real_series.iterdir())) and series.spacing[2] in (3.0, 5.0, 8.0)
    assert (np.diff(series.origins[:, 2]) > 0).all()
    hu = np.asarray(series.read_slice(20).dataobj)
    assert hu.shape == (512, 512, 1) and -1100 < np.median(hu) < 100


@pytest.mark.parametrize(("length", "words"), [(100, "unreadable header"), (400, "truncated file")])
def test_broken_header_is_not_passed_over(tmp_path, length, words):
    paths = write_series(tmp_path, HU, stack(5))
    paths[0].write_bytes(paths[0].read_bytes()[:length])
    refused(tmp_path, words)


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_a_cut_file_is_told_as_cut_wherever_it_ends(tmp_path):
    """Also where half a UID is left, which would be that of another series."""
    paths = write_series(tmp_path, HU, stack(5))
    content = paths[2].read_bytes()
    for length in range(1, len(content), 23):
        paths[2].write_bytes(content[:length])
        refused(tmp_path, "truncated file|unreadable header")


def blanks(tag, value):
    def edit(number, item):
        item[tag] = pydicom.DataElement(tag, "UN", value)  # pydicom would write code strings without blanks

    return edit


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (blanks("Modality", b" CT "), None),
        (blanks("ImageType", b"ORIGINAL\\ PRIMARY \\ AXIAL"), None),
        (blanks("BurnedInAnnotation", b" NO "), None),
        (blanks("Modality", b" MR "), "not CT"),
        (blanks("ImageType", b"ORIGINAL\\PRIMARY\\ LOCALIZER"), "localizer"),
        (blanks("BurnedInAnnotation", b" YES"), "burned-in annotation"),
    ],
)
def test_blanks_about_a_code_mean_nothing(tmp_path, edit, words):
    write_series(tmp_path, HU, stack(5), edit=edit)
    if words:
        refused(tmp_path, words)
    else:
        assert len(open_series(tmp_path).paths) == 5


BESIDE = {
    "a report": {"Modality": "SR", "PixelData": None},
    "contours": {"Modality": "RTSTRUCT", "PixelData": None},
    "a presentation state": {"Modality": "PR", "PixelData": None},
    "a segmentation": {"Modality": "SEG", "NumberOfFrames": 5},
    "a localizer": {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]},
}


def lay_beside(folder, tags, below=""):
    """A file of a series of its own, without what is None."""

    def edit(number, item):
        for name, value in tags.items():
            delattr(item, name) if value is None else setattr(item, name, value)

    write_series(folder / "scratch", HU[:1], stack(1), edit=edit)
    (folder / "scratch" / "000.dcm").rename(folder / below / "beside.dcm")


@pytest.mark.parametrize("kind", BESIDE)
def test_what_refers_to_a_series_is_left_aside(tmp_path, kind):
    """Reports have no pixels, and are no cut files. The slices may lie in a folder below."""
    written = write_series(tmp_path / "a" / "slices", HU, stack(5))
    lay_beside(tmp_path / "a", BESIDE[kind])
    lay_beside(tmp_path / "a", BESIDE[kind], "slices")
    for folder in (tmp_path / "a", tmp_path / "a" / "slices"):
        assert {*open_series(folder).paths} == {*written}


@pytest.mark.parametrize(
    ("tags", "words"), [({"Modality": "PT"}, "several series: 2"), ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "2")]
)
def test_what_may_be_of_the_patient_is_not_left_aside(tmp_path, tags, words):
    write_series(tmp_path, HU, stack(5))
    lay_beside(tmp_path, tags)
    refused(tmp_path, words)


def test_a_folder_without_slices_says_what_it_holds(tmp_path):
    for name, tags in BESIDE.items():
        (tmp_path / name).mkdir()
        lay_beside(tmp_path / name, tags)
        refused(tmp_path / name, "localizer" if name == "a localizer" else "not CT")
