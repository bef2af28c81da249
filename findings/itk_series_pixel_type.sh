#!/usr/bin/env bash
# What happens   SimpleITK's ImageSeriesReader chooses the pixel type of a whole DICOM series by its first file. A PET
#                series has a RescaleSlope of its own in each slice: where the first slope is a whole number, all other
#                slices are cut to whole numbers (2.5 becomes 2), and values beyond the first file's range wrap around
#                (-39995 becomes 25541). No warning is given, and the same slices in the other order are read exactly.
# Versions       SimpleITK 2.5.7 (ITK 5.4), files written with pydicom 3.0.2
# One expects    a type that holds all slices, or an error.
# Source         seen by running it; the documentation of ImageSeriesReader does not say how the type is chosen.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet SimpleITK==2.5.7 pydicom==3.0.2 numpy==2.4.6
venv/bin/python - <<'PYTHON'
import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, PositronEmissionTomographyImageStorage, generate_uid


def series(slopes, intercepts):
    """Stored value 5 in every slice, 2 mm apart."""
    names = []
    for i, (slope, intercept) in enumerate(zip(slopes, intercepts)):
        ds = pydicom.Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.SOPClassUID, ds.SOPInstanceUID = PositronEmissionTomographyImageStorage, generate_uid()
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.Modality, ds.InstanceNumber = "1.2.3", "1.2.3.4", "PT", i + 1
        ds.ImageOrientationPatient, ds.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, 2 * i]
        ds.PixelSpacing, ds.SliceThickness, ds.Rows, ds.Columns = [2, 2], 2, 4, 4
        ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = 1, "MONOCHROME2", 0
        ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 12, 11
        ds.RescaleSlope, ds.RescaleIntercept = slope, intercept
        ds.PixelData = np.full((4, 4), 5, np.uint16).tobytes()
        names.append(f"{i}.dcm")
        ds.save_as(names[-1], enforce_file_format=True)
    image = sitk.ReadImage(names)
    values = sitk.GetArrayFromImage(image)[:, 0, 0].tolist()
    print(f"slopes {slopes}, intercepts {intercepts}: {image.GetPixelIDTypeAsString()}, values {values}")
    return values


print("SimpleITK", sitk.Version.VersionString(), "pydicom", pydicom.__version__)
assert series([1, 0.5, 0.25], [0, 0, 0]) == [5, 2, 1], "fractions are kept now"
assert series([0.5, 1, 0.25], [0, 0, 0]) == [2.5, 5, 1.25], "the type no longer follows the first file"
assert series([1, 1, 1], [-100, -40000, 0]) == [-95, 25541, 5], "large values no longer wrap around"
PYTHON
