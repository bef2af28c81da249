"""Which series lie in a folder: each file once, whatever links lead to it and whatever it lies beside."""

import shutil

import numpy as np
import pydicom
import pytest

from data_prep.errors import DataError, ImageError
from data_prep.images.dicom import open_series
from data_prep.images.index import folder_index
from tests.data_prep.helpers import stack, write_series

HU = np.random.default_rng(1).integers(-1000, 400, (6, 12, 14))


def written(folder, name="a", count=6, bottom=100.0):
    """A series and its UID; the files' names begin with ``name``."""
    paths = write_series(folder / "scratch", HU[:count], stack(count, (-40.0, -30.0, bottom)))
    uid = pydicom.dcmread(paths[0]).SeriesInstanceUID
    moved = [path.rename(folder / f"{name}{path.name}") for path in paths]
    (folder / "scratch").rmdir()
    return moved, uid


def dicomdir(folder):
    """A directory file as media have it: DICOM, but no image and of no series."""
    item = pydicom.Dataset()
    item.file_meta = pydicom.dataset.FileMetaDataset()
    item.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    item.file_meta.MediaStorageSOPClassUID = pydicom.uid.MediaStorageDirectoryStorage
    item.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    item.FileSetID = "DISC"
    pydicom.dcmwrite(folder / "DICOMDIR", item, enforce_file_format=True)


def heights(root, uid):
    """Of the slices of a series, as its row of the index leads to it."""
    row = folder_index(root).set_index("series_uid").loc[uid]
    series = open_series(root.__class__(row["folder"]), uid)
    assert row["slices"] >= len(series.paths)
    return series.origins[:, 2].tolist()


WHOLE = [100.0, 102.0, 104.0, 106.0, 108.0, 110.0]


def test_a_directory_file_and_notes_are_no_series(tmp_path):
    (tmp_path / "x").mkdir()
    _, uid = written(tmp_path / "x")
    dicomdir(tmp_path / "x")
    (tmp_path / "x" / "README").write_text("of this disc")
    assert heights(tmp_path, uid) == WHOLE and len(folder_index(tmp_path)) == 1


def test_two_series_in_one_folder(tmp_path):
    first, second = written(tmp_path)[1], written(tmp_path, "b", 4, 500.0)[1]
    assert heights(tmp_path, first) == WHOLE
    assert heights(tmp_path, second) == [500.0, 502.0, 504.0, 506.0]
    with pytest.raises(ImageError, match="several series: 2; expected one. Name it in the column series_uid"):
        open_series(tmp_path)
    with pytest.raises(ImageError, match="another series"):
        open_series(tmp_path, "1.2.3")


def test_a_series_in_several_folders(tmp_path):
    """As on media, whose folders hold a hundred files at most, and where a folder has parts of two series."""
    for name in ("DICOM/S1", "DICOM/S2"):
        (tmp_path / name).mkdir(parents=True)
    dicomdir(tmp_path)
    paths, uid = written(tmp_path / "DICOM" / "S1")
    _, other = written(tmp_path / "DICOM" / "S2", "b", 4)
    for path in paths[::2]:
        path.rename(tmp_path / "DICOM" / "S2" / path.name)
    assert heights(tmp_path, uid) == WHOLE and heights(tmp_path, other) == WHOLE[:4]


@pytest.mark.parametrize("kind", ["files", "folder", "hard links", "in a circle"])
def test_links(tmp_path, kind):
    store, root = tmp_path / "store", tmp_path / "root"
    store.mkdir(), root.mkdir()
    paths, uid = written(store)
    if kind == "folder":
        (root / "series").symlink_to(store)
    else:
        (root / "series").mkdir()
        for number, path in enumerate(paths):
            link = root / "series" / f"{number}.dcm"
            link.hardlink_to(path) if kind == "hard links" else link.symlink_to(path)
    if kind == "in a circle":
        (root / "series" / "up").symlink_to(root)
        (root / "again").symlink_to(store)
    assert heights(root, uid) == WHOLE and len(folder_index(root)) == 1


def test_copies_of_a_series_are_one(tmp_path):
    (tmp_path / "a").mkdir()
    paths, uid = written(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    paths[2].unlink()
    assert heights(tmp_path, uid) == WHOLE and folder_index(tmp_path)["folder"].tolist() == [str(tmp_path / "b")]


def test_a_file_copied_within_the_folder_is_one(tmp_path):
    paths, uid = written(tmp_path)
    shutil.copy(paths[3], tmp_path / "copy of it.dcm")
    assert heights(tmp_path, uid) == WHOLE
    item = pydicom.dcmread(paths[3])
    item.PixelData = bytes(len(item.PixelData))
    item.save_as(tmp_path / "copy of it.dcm")
    with pytest.raises(ImageError, match="duplicate slices"):
        open_series(tmp_path)


def test_a_link_to_a_slice_that_is_gone_is_no_gap(tmp_path):
    """At the end of the stack, where nothing else shows that a slice is missing."""
    paths, _ = written(tmp_path)
    paths[0].rename(tmp_path.parent / "elsewhere")
    paths[0].symlink_to(tmp_path / "nowhere")
    with pytest.raises(ImageError, match="unreadable header"):
        open_series(tmp_path)


def test_broken_files_do_not_hide_the_others(tmp_path):
    paths, uid = written(tmp_path)
    (tmp_path / "z").mkdir()
    for number, length in enumerate((0, 100, 150, 300)):
        (tmp_path / "z" / f"{number}.dcm").write_bytes(paths[0].read_bytes()[:length])
    table = folder_index(tmp_path)
    assert table["series_uid"].tolist() == [uid]


def test_nothing_there(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        folder_index(tmp_path / "a")
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(DataError, match="no DICOM series"):
        folder_index(tmp_path)
    with pytest.raises(ImageError, match="no such folder"):
        open_series(tmp_path / "a")
