"""Strangers' files in a process with limits: a good study passes, what takes too much ends no worker."""

import errno
import json
import zipfile
import zlib

import pydicom
import pytest
from pydicom.dataelem import RawDataElement
from pydicom.uid import DeflatedExplicitVRLittleEndian

from deploy.request import IDENTITY, RequestError
from deploy.worker import guard
from tests.deploy.archives import HOSTILE, pack
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


def packed(folder, study, names=None, **options):
    """A study as an upload in a folder."""
    (folder / "study").mkdir()
    with zipfile.ZipFile(folder / "study" / guard.UPLOAD, "w", **options) as archive:
        for path in sorted(study.iterdir()):
            archive.write(path, (names or {}).get(path.name, f"Doe^Jane/scan/{path.name}"))
    return folder / "study"


def test_an_upload_is_a_study_with_its_request(study, tmp_path):
    (tmp_path / "new").mkdir()
    sent = packed(tmp_path / "new", study)
    assert guard.refused(sent, sent / guard.UPLOAD) == ""
    assert sorted(path.name for path in sent.iterdir()) == ["request.json", "series"]
    assert sorted(path.name for path in (sent / "series").iterdir()) == ["00000.dcm", "00001.dcm", "00002.dcm"]
    assert guard.refused(sent, sent / "request.json") == ""
    assert not any("Doe" in str(path) for path in tmp_path.rglob("*") if path.parts[-2:] != study.parts[-2:])


@pytest.mark.parametrize("limit", [{"MOST_FILES": 3}, {"MOST_BYTES": 1000}])
def test_an_upload_has_limits(study, tmp_path, monkeypatch, limit):
    (tmp_path / "new").mkdir()
    sent = packed(tmp_path / "new", study, compression=zipfile.ZIP_DEFLATED)
    for name, value in limit.items():
        monkeypatch.setattr(guard, name, value)
    assert "the upload has more than" in guard.refused(sent, sent / guard.UPLOAD)
    assert [path.name for path in sent.iterdir()] == [guard.UPLOAD]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"a/request.json": b"{}"}, "has a request twice"),
        ({"request.dcm": b""}, "has 2 of request.json, request.dcm"),
        ({}, "has 0 of"),
        (HOSTILE["a link"], "the upload has links"),
    ],
)
def test_an_upload_that_is_none_is_refused(study, more, words):
    files = {path.name: path.read_bytes() for path in study.iterdir()}
    if not more:
        del files["request.json"]
    data = more(files) if callable(more) else pack(*files.items(), *more.items())
    (study / guard.UPLOAD).write_bytes(data)
    assert words in guard.refused(study, study / guard.UPLOAD) and not (study / "series").exists()


def test_a_full_disk_is_no_fault_of_an_upload(study, tmp_path, monkeypatch, capsys):
    (tmp_path / "new").mkdir()
    sent = packed(tmp_path / "new", study)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(guard.archive.shutil, "copyfileobj", full)
        patch.setattr(guard.resource, "setrlimit", lambda *_: None)
        guard.main(str(sent), str(sent / guard.UPLOAD), "1")
    told = json.loads(capsys.readouterr().out)
    assert told == {"refused": "", "no_room": errno.ENOSPC} and [path.name for path in sent.iterdir()] == [guard.UPLOAD]
    monkeypatch.setattr(guard, "limited", lambda *_: told)
    with pytest.raises(OSError, match="no room") as caught:
        guard.guarded(sent, sent / guard.UPLOAD)
    assert caught.value.errno == errno.ENOSPC


UNFORESEEN = "request: unforeseen"

ODD = {"several": "1.2\\1.3", "number": "1e99", "none": "", "text": "Doe^Jane", "long": "1." * 600}


@pytest.mark.parametrize("value", ODD)
def test_no_value_of_a_slice_is_unforeseen(study, value):
    """Each element in turn has several values, or another kind of value; one slice or all of them."""
    paths = sorted(study.glob("*.dcm"))
    kept = {path: path.read_bytes() for path in paths}
    tags = [each.tag for each in pydicom.dcmread(paths[0]) if each.VR not in ("SQ", "OW", "US")]
    told = {}
    for tag in tags:
        for path in paths[: 3 if tag % 2 else 1]:
            item = pydicom.dcmread(path)
            stored = ODD[value].ljust(len(ODD[value]) + len(ODD[value]) % 2).encode()
            item[tag] = RawDataElement(tag, item[tag].VR, len(stored), stored, 0, False, True)
            item.save_as(path)
        told[tag] = guard.refused(study, study / "request.json")
        for path, content in kept.items():
            path.write_bytes(content)
    assert len(tags) > 20 and not {tag: words for tag, words in told.items() if words.startswith(UNFORESEEN)}
    assert not any("Doe" in words for words in told.values())
