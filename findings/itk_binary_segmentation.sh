#!/usr/bin/env bash
# What happens   A Segmentation of type BINARY has eight pixels in a byte, from row to row and frame to frame without a gap. ITK's
#                reader, which is GDCM, unpacks whole bytes: where the pixels are no multiple of 8, the last one to seven do
#                not come from the file. They are 0 in one run and other numbers in another. No warning.
# Versions       SimpleITK 2.5.7 (whose ITK has its own GDCM), pydicom 3.0.2
# One expects    every pixel that is stored; pydicom reads them all. Slices of CT have even sides, crops and masks often odd ones.
# Source         DICOM PS3.5, 8.1.1 and annex D (BitsAllocated 1); PS3.3, Segmentation IOD: frames are packed without padding.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet SimpleITK==2.5.7 pydicom==3.0.2 numpy==2.4.6
venv/bin/python -W ignore - <<'PYTHON'
import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.uid import ExplicitVRLittleEndian, SegmentationStorage

print("SimpleITK", sitk.Version.VersionString(), "pydicom", pydicom.__version__)


def lost(frames, rows, columns):
    """Which pixels of a Segmentation that is 1 everywhere are not read as 1 (ITK scales it to 255), by number."""
    ds = pydicom.Dataset()
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality, ds.SegmentationType = SegmentationStorage, "1.2.3.5", "SEG", "BINARY"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.PatientID = "1.2.3", "1.2.3.4", "P"
    ds.NumberOfFrames, ds.Rows, ds.Columns, ds.SamplesPerPixel = frames, rows, columns, 1
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 1, 1, 0, 0
    ds.PhotometricInterpretation = "MONOCHROME2"
    packed = np.packbits(np.ones(frames * rows * columns, np.uint8), bitorder="little").tobytes()
    ds.PixelData = packed + bytes(len(packed) % 2)
    ds["PixelData"].VR = "OB"
    ds.save_as("seg.dcm", enforce_file_format=True)
    assert pydicom.dcmread("seg.dcm").pixel_array.all()
    read = sitk.GetArrayFromImage(sitk.ReadImage("seg.dcm"))
    assert read.shape == (frames, rows, columns)
    wrong = np.flatnonzero(read.ravel() != 255).tolist()
    print(f"{frames} x {rows} x {columns} = {read.size} pixels: not read as 1:", wrong or "none")
    return wrong


for shape in ((1, 4, 4), (1, 8, 8), (2, 6, 6), (8, 3, 3)):  # multiples of 8
    assert lost(*shape) == [], "whole bytes are misread too, now"
for shape in ((1, 3, 3), (1, 5, 5), (3, 5, 5), (1, 3, 4), (1, 51, 51)):
    count = int(np.prod(shape))
    wrong = lost(*shape)
    assert wrong and set(wrong) <= set(range(count - count % 8, count)), "the last pixels are read now"
PYTHON
