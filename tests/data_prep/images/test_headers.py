"""The fast reading of headers against pydicom's."""

import io

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    generate_uid,
)

from data_prep.errors import ImageError
from data_prep.images import headers
from data_prep.images.dicom import WANTED, open_series
from data_prep.images.headers import read_header
from tests.data_prep.helpers import stack, write_series

numbers = st.floats(-999, 999).map(lambda value: f"{value:.6g}")


@st.composite
def items(draw, depth=2):
    """A data set with what a scanner puts between the tags that are wanted, and sequences that hold the same tags."""
    item = Dataset()
    item.ImageType = draw(st.lists(st.sampled_from(["ORIGINAL", "AXIAL", "LOCALIZER"]), min_size=1, max_size=4))
    item.SeriesInstanceUID = generate_uid()
    item.Manufacturer = draw(st.text("ABC xyz", max_size=9))
    item.ImagePositionPatient = draw(st.lists(numbers, min_size=3, max_size=3))
    item.PixelSpacing = draw(st.lists(numbers, min_size=2, max_size=2))
    item.Rows = item.Columns = draw(st.integers(1, 64))
    item.ImageComments = "c" * draw(st.sampled_from([0, 5, 9000]))
    if draw(st.booleans()):
        item.RescaleSlope = draw(numbers)
        item.private_block(0x0029, "VENDOR", create=True).add_new(1, "UN", draw(st.binary(max_size=40).filter(even)))
    if depth:
        nested = [draw(items(depth - 1)) for _ in range(draw(st.integers(0, 2)))]
        for inner in nested:
            inner.is_undefined_length_sequence_item = draw(st.booleans())
        item.ReferencedImageSequence = Sequence(nested)
        item["ReferencedImageSequence"].is_undefined_length = draw(st.booleans())
    return item


def even(value):
    return len(value) % 2 == 0


def saved(item, syntax, path, fragments=None):
    item.file_meta = FileMetaDataset()
    item.file_meta.TransferSyntaxUID = syntax
    item.file_meta.MediaStorageSOPClassUID, item.file_meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
    item.BitsAllocated = 16
    item.PixelData = pydicom.encaps.encapsulate(fragments) if fragments else bytes(2 * item.Rows * item.Columns)
    item["PixelData"].VR, item["PixelData"].is_undefined_length = "OW", bool(fragments)
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, item, enforce_file_format=True)
    path.write_bytes(buffer.getvalue())
    return path


PLAIN = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]


@settings(max_examples=40)
@given(item=items(), syntax=st.sampled_from([*PLAIN, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]))
def test_equals_pydicom(tmp_path_factory, item, syntax):
    path = saved(item, syntax, tmp_path_factory.getbasetemp() / "header.dcm")
    header, expected = read_header(path, WANTED), pydicom.dcmread(path, stop_before_pixels=True)
    assert {tag: header.tags.get(tag) for tag in WANTED} == {tag: expected.get(tag) for tag in WANTED}
    assert header.syntax == syntax
    assert header.whole is (True if syntax in PLAIN else None)  # the others are left to pydicom


def test_plain_files_are_not_left_to_pydicom(tmp_path, monkeypatch):
    paths = write_series(tmp_path, np.zeros((1, 8, 8)), [[0, 0, 0]])
    monkeypatch.setattr(headers.pydicom, "dcmread", lambda *_, **__: pytest.fail("pydicom was called"))
    assert read_header(paths[0], WANTED).tags["Rows"] == 8


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_any_cut_is_noticed(tmp_path):
    """Wherever a file ends too early, it is refused, or known to be cut."""
    path = write_series(tmp_path, np.zeros((1, 8, 8)), [[0, 0, 0]])[0]
    content = path.read_bytes()
    assert read_header(path, WANTED).whole
    read = []
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        try:
            header = read_header(path, WANTED)
        except Exception:  # whatever pydicom raises
            continue
        read.append(length)
        assert header.whole is False, length
    assert read, "of some lengths there is a header"


def test_cut_fragments_are_noticed(tmp_path):
    item = Dataset()
    item.Rows = item.Columns = 8
    path = saved(item, JPEG2000Lossless, tmp_path / "a.dcm", fragments=[b"1234" * 30, b"5678" * 30])
    assert read_header(path, WANTED).whole is True
    content = path.read_bytes()
    for missing in (1, 9, 60, 200):
        path.write_bytes(content[:-missing])
        assert read_header(path, WANTED).whole is False


def test_real_headers(real_series):
    for path in sorted(real_series.iterdir()):
        header, expected = read_header(path, WANTED), pydicom.dcmread(path, stop_before_pixels=True)
        assert {tag: header.tags.get(tag) for tag in WANTED} == {tag: expected.get(tag) for tag in WANTED}
        assert header.whole and header.syntax == expected.file_meta.TransferSyntaxUID


def without_preamble(path):
    path.write_bytes(path.read_bytes()[132:])


def without_meta(path):
    """The data alone, as old archives store them."""
    content = path.read_bytes()
    length = 12 + int.from_bytes(content[140:144], "little")
    path.write_bytes(content[132 + length :])


def told(syntax):
    """Meta information that names another syntax than the data are in."""

    def edit(path):
        stored = ImplicitVRLittleEndian if syntax == ExplicitVRLittleEndian else ExplicitVRLittleEndian
        item = pydicom.dcmread(path)
        item.file_meta.TransferSyntaxUID = stored
        pydicom.dcmwrite(path, item, implicit_vr=stored == ImplicitVRLittleEndian, little_endian=True)
        content = path.read_bytes()
        right, wrong = stored.encode(), syntax.encode()
        right, wrong = right + b"\0" * (len(right) % 2), wrong + b"\0" * (len(wrong) % 2)
        at = content.index(right, 132)
        group_length = int.from_bytes(content[140:144], "little") + len(wrong) - len(right)
        content = content[:140] + group_length.to_bytes(4, "little") + content[144 : at - 2]
        content += len(wrong).to_bytes(2, "little") + wrong + path.read_bytes()[at + len(right) :]
        path.write_bytes(content)

    return edit


def implicit(path):
    item = pydicom.dcmread(path)
    item.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    pydicom.dcmwrite(path, item, implicit_vr=True, little_endian=True, enforce_file_format=True)


UNUSUAL = {
    "no preamble": [without_preamble],
    "no meta information": [without_meta],
    "no meta information, implicit": [implicit, without_meta],
    "no preamble, implicit": [implicit, without_preamble],
    "told implicit, is explicit": [told(ImplicitVRLittleEndian)],
    "told explicit, is implicit": [told(ExplicitVRLittleEndian)],
}


@pytest.mark.filterwarnings("ignore:Expected")
@pytest.mark.parametrize("suffix", [".dcm", "", ".17"])
@pytest.mark.parametrize("case", UNUSUAL)
@pytest.mark.parametrize("some", [slice(None), slice(1, 4)])
def test_unusual_files_are_read_whole(tmp_path, case, suffix, some):
    """All of a series, or some of its files, whatever they are called: none is left out, and their pixels are right."""
    hu = np.random.default_rng(3).integers(-1000, 400, (12, 20, 24))
    paths = write_series(tmp_path, hu, stack(12))
    for path in paths[some]:
        for spoil in UNUSUAL[case]:
            spoil(path)
    for path in paths:
        path.rename(path.with_name(f"IM{path.stem}{suffix}"))
    series = open_series(tmp_path)
    assert len(series.paths) == 12 and read_header(series.paths[2], WANTED).whole
    for number in (0, 2, 11):
        np.testing.assert_array_equal(np.asarray(series.read_slice(number).dataobj)[..., 0], hu[number].T)


@pytest.mark.filterwarnings("ignore:Expected")
@pytest.mark.parametrize("case", UNUSUAL)
def test_unusual_files_that_are_cut_are_refused(tmp_path, case):
    paths = write_series(tmp_path, np.zeros((12, 20, 24)), stack(12))
    for spoil in UNUSUAL[case]:
        spoil(paths[4])
    paths[4].write_bytes(paths[4].read_bytes()[:-100])
    with pytest.raises(ImageError, match="truncated file"):
        open_series(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not at all", bytes(500), bytes(128) + b"DICX" + bytes(99)])
@pytest.mark.parametrize(("name", "named"), [("IM12", True), ("x.dcm", True), ("README", False), ("a.xml", False)])
def test_what_is_named_like_a_slice_is_one(tmp_path, content, name, named):
    """At the end of the stack, where nothing else would show that one is missing."""
    for number, path in enumerate(write_series(tmp_path, np.zeros((12, 4, 4)), stack(12))):
        path.rename(tmp_path / f"IM{number}")
    (tmp_path / name).write_bytes(content)
    if named:
        with pytest.raises(ImageError, match="unreadable header"):
            open_series(tmp_path)
    else:
        assert len(open_series(tmp_path).paths) == 12


def test_up_to_the_last_tag_only(tmp_path):
    path = write_series(tmp_path, np.zeros((1, 8, 8)), [[0, 0, 0]])[0]
    path.write_bytes(path.read_bytes()[:-100])
    short = read_header(path, ("Modality", "SeriesInstanceUID"), to_pixels=False)
    assert short.tags == read_header(path, ("Modality", "SeriesInstanceUID")).tags and short.whole is None


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_a_value_that_cannot_be_read_is_marked(tmp_path, syntax):
    """And the others are there; by this reader and by pydicom's."""
    item = Dataset()
    item.Rows, item.Columns, item.Modality = 8, 8, "CT"
    path = saved(item, syntax, tmp_path / "a.dcm")
    item = pydicom.dcmread(path)
    item["Rows"] = RawDataElement(Tag("Rows"), "US", 3, b"abc", 0, False, True)
    item.save_as(path)
    tags = read_header(path, WANTED).tags
    assert isinstance(tags["Rows"], headers.Malformed) and tags["Columns"] == 8 and tags["Modality"] == "CT"
