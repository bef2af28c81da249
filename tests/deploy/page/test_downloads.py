"""What can be taken along: whole, and marked as synthetic."""

import io
import json
import shutil
import warnings
import zipfile
from concurrent.futures import ThreadPoolExecutor

import nibabel as nib
import pydicom
import pytest
from pydicom import config

from deploy.case import Predictor
from deploy.page.downloads import OF_NIFTI, download
from deploy.page.refusal import Refusal
from deploy.page.sessions import Case, Scan
from tests.deploy.scans import POINT, RECORD


@pytest.fixture
def case(made, chest, tmp_path):
    """A finished case of the drawn chest."""
    scan = Scan("scan", tmp_path, chest, {"dicom": True})
    found = Case("case", 1, scan, POINT, {name: float(value) for name, value in RECORD.items()}, 365)
    shutil.copytree(made, found.out)
    return found


@pytest.fixture
def told(tmp_path):
    """What a download is told of the site."""
    (tmp_path / "secret").write_text("a secret of the site")
    (tmp_path / "secret").chmod(0o600)
    return Predictor(num_runs=3), tmp_path / "secret"


def test_dicom_objects_are_of_the_patient_and_the_same_each_time(case, told):
    content = download(case, "dicom", *told)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        items = [pydicom.dcmread(io.BytesIO(archive.read(name))) for name in archive.namelist() if name.endswith("dcm")]
    assert len(items) == 6 and {item.SyntheticData for item in items} == {"YES"}
    assert {str(item.PatientID) for item in items} == {"MRN-4711"}
    again = zipfile.ZipFile(io.BytesIO(download(case, "dicom", *told)))
    assert again.read("panel.dcm") == zipfile.ZipFile(io.BytesIO(content)).read("panel.dcm")


def test_two_downloads_at_once_are_of_the_same_objects(case, told):
    """And what was set for all threads while they were made is as before."""
    (case.out / "nodule" / "result.pdf").unlink()
    before = config.settings.reading_validation_mode, warnings.filters[:]
    with ThreadPoolExecutor(3) as threads:
        contents = [*threads.map(lambda kind: download(case, kind, *told), ("dicom", "dicom", "pdf"))]
    first, second = (zipfile.ZipFile(io.BytesIO(content)) for content in contents[:2])
    assert len(first.namelist()) == 8 and contents[2].startswith(b"%PDF")
    assert {name: first.read(name) for name in first.namelist()} == {
        name: second.read(name) for name in second.namelist()
    }
    assert download(case, "dicom", *told) == contents[0]
    assert (config.settings.reading_validation_mode, warnings.filters) == before


def test_nifti_says_that_it_is_synthetic(case, tmp_path):
    with zipfile.ZipFile(io.BytesIO(download(case, "nifti", Predictor(), None))) as archive:
        assert set(archive.namelist()) == {"nodule.nii.gz", *OF_NIFTI}
        assert "synthetic" in json.loads(archive.read("result.json"))["warning"]
        archive.extract("samples.nii.gz", tmp_path)
    assert nib.load(tmp_path / "samples.nii.gz").shape == (64, 64, 1, 3)


def test_a_page_is_drawn_where_there_is_none(case):
    (case.out / "nodule" / "result.pdf").unlink()
    assert download(case, "pdf", Predictor(), None).startswith(b"%PDF")


def test_what_was_no_dicom_does_not_become_it(case):
    case.scan.told = {"dicom": False}
    with pytest.raises(Refusal, match="no DICOM series"):
        download(case, "dicom", Predictor(), None)
    with pytest.raises(Refusal, match="nifti, pdf, dicom"):
        download(case, "../../secret", Predictor(), None)
