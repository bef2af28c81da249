#!/usr/bin/env bash
# What happens   A CT of 12 stored bits may hold them in the upper bits of its 16 (HighBit 15). SimpleITK and pydicom both
#                ignore HighBit and take the lower 12 bits: numbers in the range of a CT that are none, without a word, and
#                since they agree, a comparison of the two finds nothing.
# Versions       pydicom 3.0.2, SimpleITK 2.5.7
# One expects    the stored numbers, or an error.
# Source         DICOM PS3.5 8.1.1: the stored bits end at HighBit. Since 2008 new objects have HighBit = BitsStored - 1;
#                older archives need not.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet pydicom==3.0.2 simpleitk==2.5.7 numpy==2.4.6
venv/bin/python - <<'PYTHON'
import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

print("SimpleITK", sitk.Version_VersionString(), "pydicom", pydicom.__version__)
STORED = np.array([[0, 500], [1000, 2000]], dtype=np.uint16)


def read(high_bit):
    ds = pydicom.Dataset()
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, "1.2.3.4.5"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.Modality, ds.InstanceNumber = "1.2.3", "1.2.3.4", "CT", 1
    ds.ImageOrientationPatient, ds.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, 0]
    ds.PixelSpacing, ds.SliceThickness, ds.Rows, ds.Columns = [1, 1], 2, 2, 2
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = 1, "MONOCHROME2", 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 12, high_bit
    ds.RescaleSlope, ds.RescaleIntercept = 1, 0
    ds.PixelData = (STORED << (high_bit - 11)).tobytes()
    ds.save_as("a.dcm", enforce_file_format=True)
    theirs = sitk.GetArrayFromImage(sitk.ReadImage("a.dcm"))[0]
    ours = pydicom.dcmread("a.dcm").pixel_array
    print("HighBit", high_bit, "SimpleITK", theirs.ravel().tolist(), "pydicom", ours.ravel().tolist())
    return theirs, ours


for image in read(11):
    assert np.array_equal(image, STORED), "an ordinary file is read otherwise"
theirs, ours = read(15)
for name, image in (("SimpleITK", theirs), ("pydicom", ours)):
    assert np.array_equal(image, (STORED << 4) & 0xFFF), f"{name} no longer takes the lower bits"
PYTHON
