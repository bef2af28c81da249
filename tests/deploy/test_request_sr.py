"""A request as a structured report says the same as its JSON."""

import shutil

import pydicom
import pytest
from pydicom.uid import generate_uid

from deploy.dicom_out.write import quiet
from deploy.request import IDENTITY, RequestError, check_identity
from deploy.request_sr import make_request_sr, read_request_sr
from tests.deploy.scans import POINT, RECORD, edit_slices, write_chest


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    return write_chest(tmp_path_factory.mktemp("scan") / "series")


@pytest.fixture
def report(series, tmp_path):
    with quiet():
        made = make_request_sr(pydicom.dcmread(next(series.iterdir())), POINT, RECORD, 180)
    made.save_as(tmp_path / "made.dcm")
    return pydicom.dcmread(tmp_path / "made.dcm")


def read(report, folder):
    report.save_as(folder / "request.dcm")
    return read_request_sr(folder / "request.dcm")


def test_it_says_what_json_would(report, series, tmp_path):
    request, item = read(report, tmp_path), pydicom.dcmread(next(series.iterdir()))
    assert request.point == POINT and request.record == RECORD and request.interval_days == 180
    assert dict(request.identity) == {key: item[key].value for key in IDENTITY}
    check_identity(request, series)


def test_another_patient_is_refused(report, series, tmp_path):
    report.PatientID = "MRN-4712"
    with pytest.raises(RequestError, match="PatientID is not that of the series") as caught:
        check_identity(read(report, tmp_path), series)
    assert "471" not in str(caught.value)


def test_another_series_than_that_of_its_evidence_is_refused(report, series, tmp_path):
    other, uid = shutil.copytree(series, tmp_path / "other"), generate_uid()
    edit_slices(other, SeriesInstanceUID=uid)
    with pytest.raises(RequestError, match="evidence names another series") as caught:
        check_identity(read(report, tmp_path), other)
    assert uid not in str(caught.value)
    (study,) = report.CurrentRequestedProcedureEvidenceSequence
    named = pydicom.Dataset()
    named.SeriesInstanceUID = uid
    study.ReferencedSeriesSequence.append(named)
    check_identity(read(report, tmp_path), other)
    del report.CurrentRequestedProcedureEvidenceSequence
    check_identity(read(report, tmp_path), other)


def number(report, name):
    """The measured value of a name."""
    named = {each.ConceptNameCodeSequence[0].CodeValue: each for each in report.ContentSequence}
    return named[name].MeasuredValueSequence[0]


@pytest.mark.parametrize(
    ("name", "unit", "expected"),
    [
        ("sct_long_dia", "cm", "sct_long_dia is in cm; expected mm"),
        ("interval_days", "mo", "interval_days is in mo; expected d"),
        ("age", "mo", "age is in mo; expected a"),
        ("gender", "mm", "gender is in mm; expected 1"),
        ("sct_perp_dia", "Doe^Jane", "sct_perp_dia is in no unit of UCUM; expected mm"),
    ],
)
def test_numbers_in_other_units_are_refused(report, tmp_path, name, unit, expected):
    (code,) = number(report, name).MeasurementUnitsCodeSequence
    code.CodeValue = unit
    with pytest.raises(RequestError, match=expected) as caught:
        read(report, tmp_path)
    assert "Doe" not in str(caught.value)


@pytest.mark.parametrize("spoilt", ["scheme", "none", "name"])
def test_units_are_those_of_ucum(report, tmp_path, spoilt):
    """Of every number, whatever the letters of its name."""
    measured = number(report, "sct_long_dia")
    if spoilt == "name":
        (name,) = (c for each in report.ContentSequence for c in each.ConceptNameCodeSequence if c.CodeValue == "age")
        name.CodeValue, number(report, "AGE").MeasurementUnitsCodeSequence[0].CodeValue = "AGE", "mo"
    elif spoilt == "none":
        del measured.MeasurementUnitsCodeSequence
    else:
        measured.MeasurementUnitsCodeSequence[0].CodingSchemeDesignator = "99OTHER"
    with pytest.raises(RequestError, match="age is in mo; expected a|is in no unit of UCUM; expected mm"):
        read(report, tmp_path)


def spoil(name, report):
    content = report.ContentSequence
    if name == "title":
        report.ConceptNameCodeSequence[0].CodeValue = "126000"
    elif name == "no point":
        del content[0]
    elif name == "two points":
        content.append(content[0])
    elif name == "twice":
        content.append(content[-1])
    elif name == "no frame":
        content[0].ReferencedFrameOfReferenceUID = ""
    elif name == "value":
        content[-2].MeasuredValueSequence[0].NumericValue = 630
    elif name == "many":
        content.extend([content[1]] * 300)
    else:
        nested = content[1]
        for _ in range(20):
            item = pydicom.Dataset()
            item.ContentSequence, item.ValueType = [nested], "CONTAINER"
            nested = item
        content.append(nested)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("title", "titled"),
        ("no point", "0 points"),
        ("two points", "2 points"),
        ("twice", "stands twice"),
        ("no frame", "FrameOfReferenceUID"),
        ("value", "record"),
        ("many", "more than 200"),
        ("deep", "nested deeper"),
    ],
)
def test_what_is_malformed_is_refused(report, tmp_path, name, words):
    spoil(name, report)
    with pytest.raises(RequestError, match=words):
        read(report, tmp_path)


@pytest.mark.parametrize("content", [b"", b"x" * 500, b"\0" * 128 + b"DICM" + b"\xff" * 300])
def test_what_is_no_report_is_refused(tmp_path, content):
    (tmp_path / "request.dcm").write_bytes(content)
    with pytest.raises(RequestError, match="request: no") as caught:
        read_request_sr(tmp_path / "request.dcm")
    assert str(tmp_path) not in str(caught.value)


def test_large_files_are_not_read(tmp_path):
    (tmp_path / "request.dcm").write_bytes(b"\0" * ((1 << 20) + 1))
    with pytest.raises(RequestError, match="more than"):
        read_request_sr(tmp_path / "request.dcm")
