"""A case and its objects in one call; what is wrong is refused before anything is generated."""

import shutil
from pathlib import Path

import pydicom
import pytest

from data_prep.errors import DataError
from deploy import case, dicom_case
from scripts.errors import UserError
from scripts.files import read_mapping
from tests.deploy.scans import POINT, RECORD, edit_slices


@pytest.fixture
def generated(objects, monkeypatch):
    """Instead of generating, the result of the drawn chest is copied; which calls there were."""
    calls = []

    def predict(self, series, point, record, out, **options):
        calls.append(options)
        shutil.copytree(objects.case_dir.parent, out, dirs_exist_ok=True)
        (out / "nodule" / "result.pdf").unlink()
        return read_mapping(out / case.RESULT)

    monkeypatch.setattr(case.Predictor, "predict", predict)
    return calls


def test_result_page_and_objects(objects, generated, tmp_path):
    secret, out, dicom = tmp_path / "secret", tmp_path / "out", tmp_path / "dicom"
    predictor = case.Predictor(num_runs=3)
    asked = (predictor, objects.series, POINT, RECORD, out, dicom)
    result = dicom_case.predict(*asked, secret=secret, interval_days=180)
    assert generated == [{"interval_days": 180, "progress": None}] and result == read_mapping(out / case.RESULT)
    assert (out / "nodule" / "result.pdf").is_file() and (dicom / "report.dcm").is_file()
    assert not (dicom / "slice.dcm").exists() and secret.is_file()
    before = {path.name: path.read_bytes() for path in dicom.iterdir()}
    dicom_case.predict(*asked, secret=secret, interval_days=180)
    assert before == {path.name: path.read_bytes() for path in dicom.iterdir()}
    key = read_mapping(dicom / "objects.json")["key"]
    assert key == dicom_case.ask(*asked[:4], secret=secret, interval_days=180).key
    assert key != dicom_case.ask(*asked[:3], {**RECORD, "age": 62}, secret=secret, interval_days=180).key
    other = case.Predictor(num_runs=4)
    assert key != dicom_case.ask(other, *asked[1:4], secret=secret, interval_days=180).key


def test_a_corrected_patient_gets_no_objects_of_the_old_one(objects, generated, tmp_path):
    """The archive corrected the PatientID, and the same scan is asked for again into the same folder."""
    series, dicom = shutil.copytree(objects.series, tmp_path / "series"), tmp_path / "dicom"
    for patient in ("MRN-4711", "MRN-4712"):
        edit_slices(series, PatientID=patient)
        asked = (case.Predictor(num_runs=3), series, POINT, RECORD, tmp_path / "out", dicom)
        dicom_case.predict(*asked, secret=tmp_path / "secret")
        assert {pydicom.dcmread(path).PatientID for path in dicom.glob("*.dcm")} == {patient}


def test_what_objects_repeat_of_the_scan_changes_the_key(objects, tmp_path):
    asked = (case.Predictor(), shutil.copytree(objects.series, tmp_path / "series"), POINT, RECORD)
    keys = [dicom_case.ask(*asked, secret=tmp_path / "secret").key]
    for keyword in ("PatientID", "PatientName", "AccessionNumber", "StudyInstanceUID", "SOPInstanceUID"):
        edit_slices(asked[1], **{keyword: "1.2.3"})
        keys.append(dicom_case.ask(*asked, secret=tmp_path / "secret").key)
    assert len({*keys}) == len(keys) == 6


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"series": Path("scan.nii.gz")}, "no DICOM folder"),
        ({"record": {"age": 630}}, "age: 630"),
        ({"point": (0.0, 0.0, 999.0)}, "outside the scan"),
        ({"dicom": Path(__file__).parent}, "holds no objects"),
    ],
)
def test_what_is_wrong_is_refused_before_anything_is_generated(objects, generated, tmp_path, changed, words):
    asked = {
        "predictor": case.Predictor(),
        "series": objects.series,
        "point": POINT,
        "record": RECORD,
        "dicom": tmp_path / "dicom",
        **changed,
    }
    with pytest.raises((DataError, UserError), match=words):
        dicom_case.predict(out=tmp_path / "out", secret=tmp_path / "secret", **asked)
    assert not generated and not (tmp_path / "out").exists()
