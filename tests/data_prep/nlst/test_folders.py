"""Scans as they lie on real disks: with broken ones among them, in one folder, as links, beside a DICOMDIR."""

import shutil

import numpy as np
import pandas as pd
import pydicom
import pytest
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from data_prep.contract import read_cohort
from data_prep.nlst import study, tables

TRUTH = ["patient_id", "nodule_id", "study_yr", "x", "y", "z"]


def made(phantom, trial, dicom, out, **changed):
    """The cohort table, and what was left out."""
    options = {"coordinates": trial / "tracking.parquet", "tables": tables.find(phantom / "tables"), "dicom": dicom}
    study.make(out, study.Options(**{**options, **changed}))
    return read_cohort(out / "cohort.csv"), pd.read_csv(out / "left_out.csv")


@pytest.fixture(scope="module")
def whole(phantom, trial, tmp_path_factory):
    return made(phantom, trial, trial / "dicom", tmp_path_factory.mktemp("whole"))[0][TRUTH]


def value(tag, stored, representation="DS"):
    def edit(path):
        item = pydicom.dcmread(path)
        item[tag] = RawDataElement(Tag(tag), representation, len(stored), stored, 0, False, True)
        item.save_as(path)

    return edit


def cut(length):
    return lambda path: path.write_bytes(path.read_bytes()[:length])


SPOILT = {
    "one number for two": value("PixelSpacing", b"0.7 "),
    "decimal commas": value("PixelSpacing", b"0,7\\0,7 "),
    "NaN as a position": value("ImagePositionPatient", b"1\\2\\nan "),
    "two numbers for three": value("ImagePositionPatient", b"1\\2 "),
    "five for six": value("ImageOrientationPatient", b"1\\0\\0\\0\\1 "),
    "no slope": value("RescaleSlope", b"one "),
    "words for frames": value("NumberOfFrames", b"many", "IS"),
    "rows without a number": value("Rows", b"", "US"),
    "an odd number of bytes": value("Columns", b"123", "US"),
    "empty": cut(0),
    "cut in the preamble": cut(100),
    "cut in the meta information": cut(200),
    "cut in the header": cut(900),
    "a length beyond the file": lambda path: path.write_bytes(path.read_bytes().replace(b"PN", b"UT", 1)),
}


@pytest.mark.filterwarnings("ignore")
def test_a_malformed_header_costs_its_series_only(phantom, trial, whole, tmp_path):
    shutil.copytree(trial / "dicom", tmp_path / "dicom")
    folders = sorted((tmp_path / "dicom").iterdir())
    broken = dict(zip(folders, SPOILT, strict=False))
    assert len(broken) == len(SPOILT) < len(folders)
    for folder, kind in broken.items():
        SPOILT[kind](sorted(folder.iterdir())[3])
    cohort, left = made(phantom, trial, tmp_path / "dicom", tmp_path / "out")
    assert set(left["series_uid"]) == {folder.name for folder in broken}
    assert left["reason"].str.startswith("scan: ").all() and not left["reason"].str.contains("unforeseen").any()
    expected = whole.merge(cohort[TRUTH[:3]], on=TRUTH[:3])
    pd.testing.assert_frame_equal(cohort[TRUTH], expected)
    assert len(cohort) == len(whole) - len(left)


def flat(source, target):
    """All series in one folder."""
    target.mkdir()
    for number, path in enumerate(sorted(source.rglob("*.dcm"))):
        shutil.copy(path, target / f"IM{number}")
    (target / "DICOMDIR").write_bytes(bytes(128) + b"DICM")


def links(source, target):
    """A link for every file, and one for the folder of another series."""
    for number, folder in enumerate(sorted(source.iterdir())):
        (target / "series").mkdir(parents=True, exist_ok=True)
        if number % 2:
            (target / "series" / str(number)).symlink_to(folder)
        else:
            (target / "series" / str(number)).mkdir()
            for path in folder.iterdir():
                (target / "series" / str(number) / path.name).symlink_to(path)


def media(source, target):
    """Two folders a series, three series a folder, beside a DICOMDIR."""
    for number, path in enumerate(sorted(source.rglob("*.dcm"))):
        folder = target / "DICOM" / f"S{number // 24}"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / f"I{number}")
    (target / "DICOMDIR").write_bytes(bytes(128) + b"DICM")


@pytest.mark.parametrize("lay", [flat, links, media])
def test_however_the_files_lie(phantom, trial, whole, tmp_path, call, lay):
    lay(trial / "dicom", tmp_path / "dicom")
    cohort, left = made(phantom, trial, tmp_path / "dicom", tmp_path / "out")
    assert len(left) == 0
    pd.testing.assert_frame_equal(cohort[TRUTH], whole)
    code, _ = call("cohort", tmp_path / "out" / "cohort.csv", "--out", tmp_path / "data", "--size", 16, "--keep-ids")
    assert code == 0 and len(pd.read_csv(tmp_path / "data" / "failures.csv")) == 0


@pytest.mark.parametrize("index", [False, True])
def test_the_lowest_slices_missing(phantom, trial, whole, tmp_path, index):
    """The tracking table counts from the feet: no centre moves, the series is left out."""
    shutil.copytree(trial / "dicom", tmp_path / "dicom")
    folder = sorted((tmp_path / "dicom").iterdir())[0]
    headers = {path: pydicom.dcmread(path) for path in folder.iterdir()}
    for path in sorted(headers, key=lambda path: headers[path].ImagePositionPatient[2])[:2]:
        path.unlink()
    if index:  # and nothing else tells
        for path in folder.iterdir():
            del headers[path].ImagesInAcquisition
            headers[path].save_as(path)
    changed = {"index": trial / "index.parquet"} if index else {}
    cohort, left = made(phantom, trial, tmp_path / "dicom", tmp_path / "out", **changed)
    assert set(left["series_uid"]) == {folder.name}
    fault = "incomplete series" if index else "series not shown to be whole"
    assert set(left["reason"]) == {f"scan: {fault}"}
    assert np.allclose(cohort[["x", "y", "z"]], whole.merge(cohort[TRUTH[:3]], on=TRUTH[:3])[["x", "y", "z"]])


def test_an_output_that_cannot_be_written_is_refused_before_the_work(phantom, trial, tmp_path, call, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(study, "coordinates", None)
    code, shown = call(
        "nlst", trial / "tracking.parquet", "--tables", phantom / "tables", "--out", tmp_path / "file" / "out"
    )
    assert code == 2 and "cannot be written" in shown.err
