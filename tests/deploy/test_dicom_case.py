"""A case and its objects in one call; what is wrong is refused before anything is generated."""

import shutil
from pathlib import Path

import pytest

from data_prep.errors import DataError
from deploy import case, dicom_case
from scripts.errors import UserError
from scripts.files import read_mapping
from tests.deploy.scans import POINT, RECORD


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
