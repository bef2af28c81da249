"""Segmentation and maps lie on the right voxels of the source, however its rows and columns run."""

import numpy as np
import pydicom
import pytest

from deploy.dicom_out import maps, open_source
from deploy.dicom_out.made import Made
from deploy.dicom_out.maps import LOWEST_HU, PER_HU
from tests.deploy.results import write_samples
from tests.deploy.scans import ramp, write_ramp

ORIENTATIONS = [(1, 0, 0, 0, 1, 0), (-1, 0, 0, 0, -1, 0), (0, 1, 0, 1, 0, 0), (0, 1, 0, -1, 0, 0)]

CENTRE = (10.0, -20.0, 102.0)


@pytest.fixture(scope="module", params=ORIENTATIONS, ids=str)
def placed(request, tmp_path_factory):
    """Objects of a slice whose HU say where they lie, its crop 16 mm a side; and the slice."""
    folder = tmp_path_factory.mktemp("placed")
    series = write_ramp(folder / "series", request.param)
    write_samples(folder / "nodule", series, CENTRE, 32)
    source, made = open_source(series, CENTRE), Made(folder / "nodule", "key")
    items = {"replaced": maps.segmentation(source, made), "mean": maps.mean(source, made)}
    for name, item in (items | {"deviation": maps.deviation(source, made)}).items():
        item.save_as(folder / name)
        items[name] = pydicom.dcmread(folder / name)
    return {**items, "slice": pydicom.dcmread(source.path)}


def places(item):
    """mm, LPS, of each pixel of an image with one frame: by its header and the formula of PS3.3, C.7.6.2.1.1."""
    shared, frame = item.SharedFunctionalGroupsSequence[0], item.PerFrameFunctionalGroupsSequence[0]
    cosines = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=float)
    corner = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
    between_rows, between_columns = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
    rows, columns = np.indices((item.Rows, item.Columns))[..., None]
    return corner + columns * between_columns * cosines[:3] + rows * between_rows * cosines[3:]


def real_world(item):
    """HU of each pixel of a map."""
    mapping = item.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
    assert mapping.MeasurementUnitsCodeSequence[0].CodeValue == "[hnsf'U]"
    return item.pixel_array * mapping.RealWorldValueSlope + mapping.RealWorldValueIntercept


def test_the_mean_lies_where_the_source_has_its_values(placed):
    """Runs are the crop and 3 and 12 HU more: their mean is 5 HU above the slice, everywhere."""
    item = placed["mean"]
    at = places(item)
    np.testing.assert_allclose(real_world(item), ramp(at[..., 0], at[..., 1]) + 5, atol=0.8)
    assert np.ptp(real_world(item)) > 100 and (at[..., 2] == 102).all()


def test_the_deviation(placed):
    np.testing.assert_allclose(real_world(placed["deviation"]), np.std([0, 3, 12]), atol=0.5 / PER_HU + 1e-6)


def test_the_segmentation_has_the_pixels_whose_middle_is_in_the_crop(placed):
    item, source = placed["replaced"], placed["slice"]
    assert (item.Rows, item.Columns, item.NumberOfFrames) == (source.Rows, source.Columns, 1)
    at, mean = places(item), placed["mean"]
    low, high = (getattr(places(mean)[..., :2].reshape(-1, 2), end)(axis=0) for end in ("min", "max"))
    inside = ((at[..., :2] >= low - 0.25) & (at[..., :2] < high + 0.25)).all(axis=-1)
    assert np.array_equal(item.pixel_array.astype(bool), inside) and inside.sum() > 400
    hu = source.pixel_array + float(source.RescaleIntercept)
    np.testing.assert_allclose(hu, ramp(at[..., 0], at[..., 1]), atol=0.51)  # pixel by pixel that of the slice
    assert [float(each) for each in source.ImagePositionPatient] == pytest.approx(at[0, 0], abs=1e-4)


def test_they_refer_to_the_slice(placed):
    uid = placed["slice"].SOPInstanceUID
    for name in ("replaced", "mean", "deviation"):
        item = placed[name]
        frame = item.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0].SourceImageSequence[0]
        assert frame.ReferencedSOPInstanceUID == uid
        assert item.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0].ReferencedSOPInstanceUID == uid


def test_stored_values_span_ct(objects):
    item = objects.read("mean")
    assert (item.BitsAllocated, item.PixelRepresentation) == (16, 0)
    assert 65535 / PER_HU + LOWEST_HU["mean"] > 3071


def test_the_segment_says_what_it_is(objects):
    (segment,) = objects.read("replaced").SegmentSequence
    assert segment.SegmentAlgorithmType == "AUTOMATIC" and "generated" in segment.SegmentLabel
    family = segment.SegmentationAlgorithmIdentificationSequence[0].AlgorithmFamilyCodeSequence[0]
    assert (family.CodeValue, family.CodingSchemeDesignator) == ("123110", "DCM")
    assert objects.read("replaced").SegmentationType == "BINARY"
