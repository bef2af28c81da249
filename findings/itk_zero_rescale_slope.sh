#!/usr/bin/env bash
# What happens   SimpleITK reads a CT whose RescaleSlope is 0 as if it were 1: values look like HU, though by the file's own
#                rule all of them are the intercept. pydicom applies the file: one value everywhere. Nothing is said.
# Versions       SimpleITK 2.5.7, pydicom 3.0.2
# One expects    the same numbers from two readers of one file, or an error, since a slope of 0 loses the image.
# Source         DICOM PS3.3 C.7.6.16.2.9.1 and C.11.1: output = slope x stored + intercept; no exception for 0.
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
from pydicom.pixels import apply_rescale
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

print("SimpleITK", sitk.Version_VersionString(), "pydicom", pydicom.__version__)


def read(slope):
    ds = pydicom.Dataset()
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, "1.2.3.4.5"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.Modality, ds.InstanceNumber = "1.2.3", "1.2.3.4", "CT", 1
    ds.ImageOrientationPatient, ds.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, 0]
    ds.PixelSpacing, ds.SliceThickness, ds.Rows, ds.Columns = [1, 1], 2, 2, 2
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = 1, "MONOCHROME2", 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 16, 15
    ds.RescaleSlope, ds.RescaleIntercept = slope, -1024
    ds.PixelData = np.array([[0, 500], [1000, 2000]], dtype=np.uint16).tobytes()
    ds.save_as("a.dcm", enforce_file_format=True)
    again = pydicom.dcmread("a.dcm")
    theirs = sitk.GetArrayFromImage(sitk.ReadImage("a.dcm"))[0]
    ours = apply_rescale(again.pixel_array, again)
    print("slope", slope, "SimpleITK", theirs.ravel().tolist(), "pydicom", ours.ravel().tolist())
    return theirs, ours


for slope in (1, 2):
    same = read(slope)
    assert np.array_equal(*same), "the readers disagree on an ordinary slope"
theirs, ours = read(0)
assert (ours == -1024).all(), "pydicom no longer applies a slope of 0"
assert theirs.ravel().tolist() == [-1024, -524, -24, 976], "SimpleITK no longer takes 0 for 1"
PYTHON
