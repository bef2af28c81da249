"""Every object says that it is synthetic, for research, and what made it from which slice."""

import pytest

from deploy.dicom_out import OBJECTS
from deploy.dicom_out.marks import WARNING

NAMES = (*OBJECTS, "slice")
IMAGES = {"panel": "YES", "replaced": "NO", "mean": "NO", "deviation": "NO", "slice": "YES"}


@pytest.mark.parametrize("name", NAMES)
def test_marks_of_every_object(objects, name):
    item = objects.read(name)
    assert item.SyntheticData == "YES" and item.ContentQualification == "RESEARCH"
    made_by = [each for each in item.ContributingEquipmentSequence if each.Manufacturer == "NAMD"]
    assert [each.PurposeOfReferenceCodeSequence[0].CodeValue for each in made_by] == ["109100"]
    told = "Generated follow-up after 12 months of the lung nodule at -70, 0, 102 mm, LPS. "
    assert made_by[0].ContributionDescription == told + WARNING
    assert item.SeriesDescription.startswith("SYNTHETIC ")
    assert item.SeriesDescription.endswith(" at -70, 0, 102 mm, research only")


@pytest.mark.parametrize("name", IMAGES)
def test_marks_of_images(objects, name):
    """Of a segmentation and a map, PS3.3 fixes the second value of ImageType: PRIMARY."""
    item = objects.read(name)
    assert item.ImageType[:2] == ["DERIVED", "PRIMARY" if name in ("replaced", "mean", "deviation") else "SECONDARY"]
    assert item.BurnedInAnnotation == IMAGES[name] and WARNING in item.DerivationDescription
    (source,) = item.SourceImageSequence
    assert source.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
    assert source.ReferencedSOPInstanceUID == objects.slice().SOPInstanceUID
