"""A loaded scan is read whole, once, in a process with limits."""

import gzip
import io
import json
import shutil
import zipfile

import nibabel as nib
import numpy as np
import pydicom
import pytest

from data_prep.images.dicom import open_series
from deploy.page import reading
from deploy.page.refusal import Refusal
from tests.deploy.scans import POINT


@pytest.fixture
def folder(tmp_path):
    """A scan's folder, nothing given yet."""
    (tmp_path / "scan" / reading.GIVEN).mkdir(parents=True)
    return tmp_path / "scan"


def give(folder, name, content):
    (folder / reading.GIVEN / name).write_bytes(content)


def give_series(folder, chest):
    for path in chest.iterdir():
        shutil.copy(path, folder / reading.GIVEN)


def nifti(hu, affine):
    image = nib.Nifti1Image(hu, affine)
    image.set_sform(affine, code="scanner")
    return gzip.compress(image.to_bytes())


def planes(folder, told):
    columns, rows, count = told["shape"]
    return np.frombuffer((folder / reading.SLICES).read_bytes(), "<i2").reshape(count, rows, columns)


def test_a_series_is_where_its_headers_say(folder, chest):
    give_series(folder, chest)
    told = reading.read(folder)
    items = sorted((pydicom.dcmread(path) for path in chest.iterdir()), key=lambda item: item.ImagePositionPatient[2])
    assert told["refused"] == "" and told["dicom"] and told["image"] == reading.GIVEN
    assert told["shape"] == [256, 256, 3] and told["spacing"][:2] == [1.5, 1.5]
    assert told["origin"] == [float(value) for value in items[0].ImagePositionPatient[:2]]
    assert told["heights"] == [float(item.ImagePositionPatient[2]) for item in items]
    hu = np.stack([item.pixel_array * item.RescaleSlope + item.RescaleIntercept for item in items])
    assert np.array_equal(planes(folder, told), hu.clip(-1024, 3071))


def test_a_nifti_file_in_any_orientation_is_turned(folder):
    hu = np.random.default_rng(0).integers(-900, 200, (5, 7, 3)).astype(np.int16)
    affine = np.array([[0, -0.8, 0, 10], [0.7, 0, 0, 20], [0, 0, 2.5, -30], [0, 0, 0, 1.0]])  # axes to A, L, S
    give(folder, "00000-crop.nii.gz", nifti(hu, affine))
    told = reading.read(folder)
    assert told["shape"] == [7, 5, 3] and told["spacing"] == [0.8, 0.7, 2.5] and not told["dicom"]
    shown = planes(folder, told)
    for index in ((0, 0, 0), (4, 6, 2), (1, 5, 1)):
        x, y, z = (affine @ [*index, 1])[:3] * [-1, -1, 1]  # LPS
        column, row = round((x - told["origin"][0]) / 0.8), round((y - told["origin"][1]) / 0.7)
        assert shown[told["heights"].index(z), row, column] == hu[index]


def test_a_zip_file_is_unpacked_and_goes(folder, chest):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in chest.iterdir():
            archive.write(path, f"scan/{path.name}")
        archive.writestr("DICOMDIR", b"x")
        archive.writestr("__MACOSX/._a", b"x")
    give(folder, "00000-a.zip", buffer.getvalue())
    told = reading.read(folder)
    assert told["refused"] == "" and told["image"] == reading.SERIES
    assert len(list((folder / reading.SERIES).iterdir())) == 3 and not list((folder / reading.GIVEN).iterdir())
    assert sorted(path.name for path in folder.iterdir()) == [reading.GIVEN, reading.SERIES, reading.SLICES]
    open_series(folder / reading.SERIES).nearest_slice(POINT)


def bomb(size):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a", "w") as file:
        for _ in range(size >> 20):
            file.write(bytes(1 << 20))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.zip", b"PK\x03\x04 no zip", "zip file is damaged"),
        ("a.zip", bomb(1 << 22)[:-40], "zip file is damaged"),
        ("a.nii.gz", b"no gzip", "unreadable NIfTI"),
        ("a.nii", b"", "unreadable NIfTI"),
        ("a.dcm", b"no DICOM", "unreadable header"),
        ("a.txt", b"text", "no DICOM files"),
        ("a.nii.gz", nifti(np.full((4, 4, 4), np.nan), np.eye(4)), "not finite"),
        (
            "a.nii.gz",
            nifti(np.zeros((4, 4, 4), np.int16), np.array([[1, 1, 0, 0], [-1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])),
            "oblique",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "content",  # which holds the time where it is packed
)
def test_what_is_no_scan_is_refused_without_paths(folder, tmp_path, name, content, words):
    give(folder, f"00000-{name}", content)
    told = reading.read(folder)
    assert words in told["refused"] and str(tmp_path) not in told["refused"]


def test_what_is_too_much_is_refused(folder, chest, monkeypatch):
    monkeypatch.setattr(reading, "MOST_VOXELS", 1000)
    give_series(folder, chest)
    assert "million voxels" in reading.read(folder)["refused"]
    monkeypatch.setattr(reading, "MOST_BYTES", 1 << 20)
    shutil.rmtree(folder / reading.GIVEN)
    (folder / reading.GIVEN).mkdir()
    give(folder, "00000-a.zip", bomb(1 << 22))
    assert "has more than" in reading.read(folder)["refused"]


def test_links_are_refused(folder):
    (folder / reading.GIVEN / "a.dcm").symlink_to("/etc/passwd")
    assert "links" in reading.read(folder)["refused"]


@pytest.mark.processes
def test_a_process_of_its_own_reads(folder, chest, monkeypatch):
    give_series(folder, chest)
    told = reading.guarded(folder)
    assert told["shape"] == [256, 256, 3] and (folder / reading.SLICES).is_file()
    monkeypatch.setattr(reading, "SECONDS", 0.05)
    with pytest.raises(Refusal, match="memory and time"):
        reading.guarded(folder)


def test_what_is_refused_leaves_nothing_unpacked(folder, capsys, monkeypatch):
    monkeypatch.setattr(reading.resource, "setrlimit", lambda *_: None)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.txt", "text")
    give(folder, "00000-a.zip", buffer.getvalue())
    reading.main(str(folder), "1")
    assert "no DICOM files" in json.loads(capsys.readouterr().out)["refused"] and not (folder / reading.SERIES).exists()
