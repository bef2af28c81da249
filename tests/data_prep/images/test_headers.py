"""The fast reading of headers against pydicom's."""

import io

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    generate_uid,
)

from data_prep.images import headers
from data_prep.images.dicom import WANTED
from data_prep.images.headers import read_header
from tests.data_prep.helpers import write_series

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


@settings(max_examples=40, deadline=None)
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
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        try:
            header = read_header(path, WANTED)
        except Exception:  # whatever pydicom raises
            continue
        assert header.whole is False, length


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
