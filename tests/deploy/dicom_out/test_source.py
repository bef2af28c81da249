"""What objects repeat of a series: patient and study byte for byte, nothing else, and where the slice lies."""

import numpy as np
import pydicom
import pytest
from pydicom.data import get_charset_files
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from data_prep.errors import ImageError
from deploy.dicom_out import open_source, write_objects
from deploy.dicom_out.made import Made
from deploy.dicom_out.report import report
from deploy.dicom_out.source import DECODED, EMPTY_IF_UNKNOWN, IF_KNOWN
from deploy.dicom_out.write import quiet
from tests.deploy.scans import POINT, ramp, write_chest, write_ramp


@pytest.fixture
def series(tmp_path):
    return write_chest(tmp_path / "series")


def edit(series, change):
    for path in series.iterdir():
        item = pydicom.dcmread(path)
        change(item)
        item.save_as(path)


@pytest.mark.parametrize("name", ["chrFren", "chrH31", "chrKoreanMulti", "chrRuss", "chrX1", "chrX2"])
def test_names_keep_their_bytes_and_their_character_set(series, objects, tmp_path, name):
    named = pydicom.dcmread(get_charset_files(f"{name}.dcm")[0])

    def change(item):
        item.SpecificCharacterSet, item.PatientName = named.SpecificCharacterSet, named.PatientName

    edit(series, change)
    first = pydicom.dcmread(next(series.iterdir()))
    report(open_source(series, POINT), Made(objects.case_dir, "key")).save_as(tmp_path / "report.dcm")
    item = pydicom.dcmread(tmp_path / "report.dcm")
    assert bytes(item.get_item("PatientName").value) == bytes(first.get_item("PatientName").value)
    assert item.SpecificCharacterSet == named.SpecificCharacterSet and item.PatientName == named.PatientName


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_series_in_other_encodings(series, objects, tmp_path, syntax):
    for path in series.iterdir():
        item = pydicom.dcmread(path)
        if syntax == ExplicitVRBigEndian:
            item.PixelData = np.frombuffer(item.PixelData, "<u2").astype(">u2").tobytes()
            item["PixelData"].VR = "OW"
        item.file_meta.TransferSyntaxUID = syntax
        pydicom.dcmwrite(path, item, implicit_vr=syntax.is_implicit_VR, little_endian=syntax.is_little_endian)
    write_objects(open_source(series, POINT), objects.case_dir, tmp_path / "dicom", "key", with_slice=True)
    for name in ("report", "replaced", "slice"):
        item, first = pydicom.dcmread(tmp_path / "dicom" / f"{name}.dcm"), objects.read(name)
        assert item.PatientName == "Doe^Jane" and item.get("PixelData") == first.get("PixelData")


def test_nothing_else_is_copied(series):
    def change(item):
        item.add_new(0x00091001, "LO", "private")
        item.InstitutionName, item.OperatorsName, item.EthnicGroup = "Hospital", "Operator", "ethnos"
        item.PregnancyStatus = 4
        item.ReferencedStudySequence = [pydicom.Dataset()]

    edit(series, change)
    source = open_source(series, POINT)
    assert (
        source.identity.EthnicGroup == "ethnos"
        and source.identity.PregnancyStatus == 4
        and source.identity.StudyDate == "20240229"
    )
    allowed = {*EMPTY_IF_UNKNOWN, *IF_KNOWN, *DECODED, "StudyInstanceUID", "SpecificCharacterSet"}
    assert {element.keyword for element in source.identity} <= allowed
    text = str(source.image)
    assert not any(word in text for word in ("Doe", "4711", "Hospital", "Operator", "private", "ethnos"))
    assert source.identity.StudyID == "" and source.image.PatientName == ""


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "FrameOfReferenceUID", "SOPInstanceUID"])
@pytest.mark.parametrize("value", [None, "1.2.x"])
def test_a_series_that_nothing_can_refer_to_is_refused(series, keyword, value):
    def change(item):
        del item[keyword]
        if value:
            item.add_new(keyword, "UI", value)

    with quiet():
        edit(series, change)
        with pytest.raises(ImageError, match=f"missing or malformed {keyword}"):
            open_source(series, POINT)


def test_other_images_are_refused(tmp_path):
    with pytest.raises(ImageError, match="no DICOM folder"):
        open_source(tmp_path / "scan.nii.gz", POINT)


@pytest.mark.parametrize(
    "orientation", [(1, 0, 0, 0, 1, 0), (-1, 0, 0, 0, -1, 0), (0, 1, 0, 1, 0, 0), (0, 1, 0, -1, 0, 0)]
)
def test_places_on_another_grid(tmp_path, orientation):
    """The HU of the drawn slice say where each of its pixels lies."""
    source = open_source(write_ramp(tmp_path / "series", orientation), (10.0, -20.0, 102.0))
    affine = np.array([[-0.5, 0, 0, 5.0], [0, -0.5, 0, 30.0], [0, 0, 2, 102.0], [0, 0, 0, 1]])
    places = source.within(affine, (20, 30))
    x, y = -(5.0 - 0.5 * places[0]), -(30.0 - 0.5 * places[1])
    inside = np.isfinite(places[0])
    hu = np.asarray(source.hu.dataobj)[..., 0]
    np.testing.assert_allclose(ramp(x, y)[inside], hu[inside], atol=0.51)
    assert abs(inside.sum() - 20 * 30 * 0.25 / (0.8 * 0.6)) < 40
    assert np.nanmin(places) >= -0.5 and np.nanmax(places[0]) < 19.5 and np.nanmax(places[1]) < 29.5
