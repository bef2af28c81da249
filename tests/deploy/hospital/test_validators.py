"""What others say of our objects: dicom3tools, dcmtk and SimpleITK, on a drawn slice and on real series."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK

from deploy.dicom_out import OBJECTS, open_source, write_objects
from tests.deploy.conftest import Objects
from tests.deploy.dicom_out.test_maps import CENTRE, ORIENTATIONS
from tests.deploy.results import write_result
from tests.deploy.scans import ramp, write_ramp
from tests.deploy.standard import faults
from tests.deploy.test_flags import TUMOURS

pytestmark = pytest.mark.hospital

NAMES = (*OBJECTS, "slice")

UNKNOWN = "Error - Attribute with an even group number is not a recognized standard attribute - (0x0008,0x001c)  ? "
"""dciodvfy of 2022 does not know SyntheticData (0008,001C)."""

SAME = "Different information entities for attribute - Element=<AccessionNumber>"
"""dcentvfy files the accession number of a report under the study, and that of an image under the series."""


def told(*command: object) -> str:
    """All that a program prints; the exit status of dciodvfy says nothing."""
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, errors="replace")
    return done.stdout + done.stderr


def made(folder: Path, series: Path, point: tuple[float, float, float], size: int = 64) -> Objects:
    case_dir = write_result(folder / "out", series, point, size)
    content = write_objects(open_source(series, point), case_dir, folder / "dicom", "key", with_slice=True)
    return Objects(series, case_dir, folder / "dicom", content)


@pytest.fixture(scope="module")
def real(real_series, tmp_path_factory):
    item = pydicom.dcmread(next(real_series.glob("*.dcm")), stop_before_pixels=True)
    point, *_ = TUMOURS.get((item.PatientAge, item.PatientSex), (None,))
    if point is None:  # the middle of the scan
        slices = sorted(
            (pydicom.dcmread(path) for path in real_series.glob("*.dcm")), key=lambda each: each.SliceLocation
        )
        middle = slices[len(slices) // 2]
        corner, spacing = np.array(middle.ImagePositionPatient), float(middle.PixelSpacing[0])
        point = tuple(corner + [spacing * middle.Columns / 2, spacing * middle.Rows / 2, 0])
    return made(tmp_path_factory.mktemp("real_objects"), real_series, point)


def validated(objects: Objects) -> None:
    for name in NAMES:
        path = objects.folder / f"{name}.dcm"
        errors = [line for line in told("dciodvfy", path).splitlines() if line.startswith("Error")]
        assert errors == [UNKNOWN], name
        assert faults(objects.read(name)) == [], name
        assert "yes:" in told("dcmftest", path)
        json.loads(told("dcm2json", path))
    said = told("dcentvfy", *objects.folder.glob("*.dcm"), objects.slice().filename)
    assert [line for line in said.splitlines() if line.strip() and SAME not in line] == []
    assert "Comprehensive 3D SR Document" in told("dsrdump", objects.folder / "report.dcm")


def test_drawn_slices(objects):
    validated(objects)


def test_real_series(real):
    validated(real)


def test_dciodvfy_finds_what_is_wrong(objects, tmp_path):
    item = objects.read("replaced")
    del item.SegmentSequence
    item.save_as(tmp_path / "broken.dcm")
    assert "Missing attribute Type 1 Required Element=<SegmentSequence>" in told("dciodvfy", tmp_path / "broken.dcm")


@pytest.fixture(scope="module", params=ORIENTATIONS, ids=str)
def placed(request, tmp_path_factory):
    """Of a slice whose HU say where its pixels lie."""
    folder = tmp_path_factory.mktemp("placed")
    return made(folder, write_ramp(folder / "series", request.param), CENTRE, 32)


def test_dcmtk_reads_the_same_places(placed):
    """Its JSON has the pixels and where they lie; the mean of the runs is 5 HU above the slice."""
    item = dcmtk(placed.folder / "mean.dcm")
    shared, frame = first(item, "52009229"), first(item, "52009230")
    between_rows, between_columns = values(first(shared, "00289110"), "00280030")
    corner = np.array(values(first(frame, "00209113"), "00200032"))
    cosines = np.array(values(first(shared, "00209116"), "00200037"))
    (rows,), (columns,) = values(item, "00280010"), values(item, "00280011")
    stored = np.frombuffer(base64.b64decode(item["7FE00010"]["InlineBinary"]), "<u2").reshape(int(rows), int(columns))
    mapping = first(shared, "00409096")
    (slope,), (intercept,) = values(mapping, "00409225"), values(mapping, "00409224")
    row, column = np.indices(stored.shape)[..., None]
    at = corner + column * between_columns * cosines[:3] + row * between_rows * cosines[3:]
    np.testing.assert_allclose(stored * slope + intercept, ramp(at[..., 0], at[..., 1]) + 5, atol=0.8)


def dcmtk(path: Path) -> dict:
    return json.loads(told("dcm2json", path))


def first(item: dict, tag: str) -> dict:
    return item[tag]["Value"][0]


def values(item: dict, tag: str) -> list[float]:
    return [float(value) for value in item[tag]["Value"]]


def test_simpleitk_reads_the_same_places(placed):
    """Segmentation and slice lie on the source's voxels; maps it does not read."""
    read = {name: SimpleITK.ReadImage(placed.folder / f"{name}.dcm") for name in ("replaced", "slice")}
    source = SimpleITK.ReadImage(placed.slice().filename)
    inside = SimpleITK.GetArrayFromImage(read["replaced"])[0] > 0
    hu = SimpleITK.GetArrayFromImage(source)[0]
    for name, image in read.items():
        assert image.GetSize() == source.GetSize(), name
        for part in ("GetSpacing", "GetOrigin", "GetDirection"):
            assert getattr(image, part)()[:2] == pytest.approx(getattr(source, part)()[:2], abs=1e-4), (name, part)
    places = [source.TransformIndexToPhysicalPoint((int(x), int(y), 0)) for y, x in np.argwhere(inside)]
    at = np.array(places)
    np.testing.assert_allclose(hu[inside], ramp(at[:, 0], at[:, 1]), atol=0.51)
    assert (np.abs(at[:, :2] - CENTRE[:2]) < 8.8).all() and inside.sum() > 400
    generated = SimpleITK.GetArrayFromImage(read["slice"])[0]
    assert np.abs(generated - hu - 3)[inside].max() <= 2.1
    with pytest.raises(RuntimeError):
        SimpleITK.ReadImage(placed.folder / "mean.dcm")
