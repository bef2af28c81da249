"""All objects of a case: what the standard demands, once and whole, and nothing of a patient in logs."""

import json
import logging
import warnings

import pydicom
import pytest

from deploy.dicom_out import OBJECTS, open_source, write_objects
from deploy.dicom_out import write as module
from scripts.errors import UserError
from tests.deploy.scans import POINT, write_chest
from tests.deploy.standard import faults

NAMES = (*OBJECTS, "slice")


def test_the_folder_has_each_object_and_the_result(objects):
    assert {path.name for path in objects.folder.iterdir()} == {
        *(f"{name}.dcm" for name in NAMES),
        *("objects.json", "result.json"),
    }
    assert json.loads((objects.folder / "objects.json").read_bytes()) == objects.content
    assert (objects.folder / "result.json").read_bytes() == (objects.case_dir / "result.json").read_bytes()
    read = {name: objects.read(name) for name in NAMES}
    assert {f"{name}.dcm": item.SOPInstanceUID for name, item in read.items()} == {
        name: entry["sop_instance_uid"] for name, entry in objects.content["objects"].items()
    }
    assert len({item.SOPInstanceUID for item in read.values()}) == len(NAMES)
    assert len({item.SeriesInstanceUID for item in read.values()}) == len(NAMES) - 1  # both maps are one


@pytest.mark.parametrize("name", NAMES)
def test_what_the_standard_demands_is_there(objects, name):
    assert faults(objects.read(name)) == []


def test_the_check_of_the_standard_can_fail(objects):
    item = objects.read("replaced")
    del item.PatientID
    item.SegmentSequence[0].SegmentLabel = ""
    assert faults(item) == ["patient/PatientID is missing", "segmentation-image/SegmentSequence/SegmentLabel is empty"]


@pytest.mark.parametrize("name", NAMES)
def test_patient_and_study_are_those_of_the_series(objects, name):
    item, source = objects.read(name), objects.slice()
    for keyword in ("PatientName", "PatientID", "PatientAge", "PatientSex", "StudyInstanceUID", "StudyDate"):
        assert item[keyword].value == source[keyword].value, keyword
    assert item.SeriesInstanceUID != source.SeriesInstanceUID and item.AccessionNumber == "ACC-815"
    assert "SpecificCharacterSet" not in item  # as the series
    if name not in ("report", "page", "panel"):
        assert item.FrameOfReferenceUID == source.FrameOfReferenceUID


def test_bytes_are_made_once(objects, monkeypatch):
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in objects.folder.iterdir()}
    monkeypatch.setattr(module, "_made", lambda *_: pytest.fail("made again"))
    again = write_objects(open_source(objects.series, POINT), objects.case_dir, objects.folder, "key", True)
    assert again == objects.content
    assert before == {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in objects.folder.iterdir()}


def test_another_case_or_a_damaged_file_is_made_anew(objects, tmp_path):
    source, folder = open_source(objects.series, POINT), tmp_path / "dicom"
    first = write_objects(source, objects.case_dir, folder, "key")
    assert first["objects"].keys() == {f"{name}.dcm" for name in OBJECTS}
    uids = {name: entry["sop_instance_uid"] for name, entry in first["objects"].items()}
    assert all(objects.content["objects"][name]["sop_instance_uid"] == uid for name, uid in uids.items())
    (folder / "page.dcm").write_bytes(b"torn")
    again = write_objects(source, objects.case_dir, folder, "key")
    assert pydicom.dcmread(folder / "page.dcm").SOPInstanceUID == uids["page.dcm"]
    assert again["objects"].keys() == first["objects"].keys()
    (folder / "objects.json").write_text("")
    assert write_objects(source, objects.case_dir, folder, "key")["objects"].keys() == first["objects"].keys()
    other = write_objects(source, objects.case_dir, folder, "another key")
    assert not {entry["sop_instance_uid"] for entry in other["objects"].values()} & set(uids.values())


def test_other_folders_are_left_alone(objects, tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(UserError, match="holds no objects of a case"):
        write_objects(open_source(objects.series, POINT), objects.case_dir, tmp_path, "key")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_what_fails_leaves_nothing(objects, tmp_path, monkeypatch):
    monkeypatch.setattr("deploy.dicom_out.page.document", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_objects(open_source(objects.series, POINT), objects.case_dir, tmp_path / "dicom", "key")
    assert not list(tmp_path.iterdir())


def test_others_say_nothing_of_the_patient(objects, tmp_path, caplog, capfd):
    """highdicom warns of names that it does not like and tells them, pydicom of values."""
    series = write_chest(tmp_path / "series")
    for path in series.iterdir():
        item = pydicom.dcmread(path)
        item.PatientName, item.PatientID, item.AccessionNumber = "Jane Doe of Nowhere", "X" * 80, "Y" * 30
        item.save_as(path)
    caplog.set_level(logging.DEBUG)
    with warnings.catch_warnings(record=True) as caught, module.quiet():
        warnings.simplefilter("always")
        write_objects(open_source(series, POINT), objects.case_dir, tmp_path / "dicom", "key")
    shown = caplog.text + "".join(capfd.readouterr()) + "".join(str(each.message) for each in caught)
    assert not any(secret in shown for secret in ("Doe", "X" * 20, "Y" * 20, "4711"))
    assert pydicom.dcmread(tmp_path / "dicom" / "report.dcm").PatientID == "X" * 80
