"""Strangers' files in a process with limits: a good study passes, what takes too much ends no worker."""

import json
import zlib

import pydicom
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian

from deploy.request import IDENTITY, RequestError
from deploy.worker import guard
from tests.deploy.scans import POINT, RECORD, write_chest


@pytest.fixture
def study(tmp_path):
    """The drawn chest with a request."""
    folder = write_chest(tmp_path / "study")
    item = pydicom.dcmread(next(folder.iterdir()))
    content = {key: item[key].value for key in IDENTITY} | {"point": POINT, "record": RECORD}
    (folder / "request.json").write_text(json.dumps(content))
    return folder


def inflating(path, size):
    """A structured report of a few kilobytes that inflates to a text of so many bytes."""
    item = pydicom.Dataset()
    item.file_meta = pydicom.dataset.FileMetaDataset()
    item.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    item.SOPClassUID, item.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.88.34", "1.2.3"
    item.file_meta.MediaStorageSOPClassUID, item.file_meta.MediaStorageSOPInstanceUID = item.SOPClassUID, "1.2.3"
    item.save_as(path, enforce_file_format=True)
    head = path.read_bytes()
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    element = b"\x08\x00\x16\x00UI\x04\x001.2\0" + b"\x40\x00\x60\xa1UT\0\0" + size.to_bytes(4, "little")
    body = deflate.compress(element) + deflate.flush(zlib.Z_FULL_FLUSH)
    body += (deflate.compress(b"A" * (1 << 20)) + deflate.flush(zlib.Z_FULL_FLUSH)) * (size >> 20)
    start = head.index(DeflatedExplicitVRLittleEndian.encode()) + len(DeflatedExplicitVRLittleEndian)
    path.write_bytes(head[: start + start % 2] + body + deflate.flush())
    assert path.stat().st_size < 1 << 20


@pytest.mark.processes
def test_a_good_study_passes(study):
    guard.guarded(study, study / "request.json")
    assert guard.refused(study, study / "request.json") == ""


@pytest.mark.processes
def test_what_takes_too_much_memory_is_refused(study):
    inflating(study / "request.dcm", 900 << 20)
    with pytest.raises(RequestError, match="request: "):
        guard.guarded(study, study / "request.dcm", memory=1 << 30)


def test_what_takes_too_long_is_refused(study):
    with pytest.raises(RequestError, match="memory and time"):
        guard.guarded(study, study / "request.json", seconds=0.05)


def test_what_is_wrong_is_told_without_values(study, tmp_path):
    request = study / "request.json"
    content = json.loads(request.read_text())
    request.write_text(json.dumps({**content, "PatientID": "MRN-4712"}))
    told = guard.refused(study, request)
    assert "PatientID is not that of the series" in told and "MRN" not in told and str(tmp_path) not in told
    request.write_text(json.dumps({**content, "point": [0, 0, 999]}))
    assert "outside the scan" in guard.refused(study, request)


def test_links_and_too_many_files_are_refused(study, monkeypatch):
    monkeypatch.setattr(guard, "MOST_FILES", 3)
    with pytest.raises(RequestError, match="more than 3 files"):
        guard.check_size(study)
    (study / "more.dcm").symlink_to("/etc/passwd")
    with pytest.raises(RequestError, match="links"):
        guard.check_size(study)


def test_whatever_readers_raise_is_told_by_its_name(study, monkeypatch):
    def fails(*_):
        raise KeyError("Doe^Jane")

    monkeypatch.setattr(guard, "open_source", fails)
    assert guard.refused(study, study / "request.json") == "request: unforeseen KeyError in reading its files."
