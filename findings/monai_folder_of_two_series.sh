#!/usr/bin/env bash
# What happens   MONAI's LoadImage, given a folder with two CT series and no itk installed, makes one volume of both: the
#                slices are interleaved by InstanceNumber, their positions play no part, and the affine has a slice
#                spacing that neither series has (1 mm for two of 2.5 mm). A single series whose InstanceNumber does not
#                follow the position, which the standard allows, comes out shuffled and, here, with half its spacing.
# Versions       MONAI 1.6.1, torch 2.13.0, pydicom 3.0.2
# One expects    one series and a warning (as MONAI's reader through itk does), or an error; slices in order of position.
# Source         LoadImage's documentation says that a folder is read as one DICOM series; of several it says nothing for
#                PydicomReader. InstanceNumber's meaning: DICOM PS3.3, General Image Module.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet monai==1.6.1 torch==2.13.0 pydicom==3.0.2 numpy==2.4.6
venv/bin/python -W ignore - <<'PYTHON'
import os

import monai
import numpy as np
import pydicom
from monai.transforms import LoadImage
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid


def write(folder, series, number, z, value):
    os.makedirs(folder, exist_ok=True)
    ds = pydicom.Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID, ds.StudyInstanceUID = CTImageStorage, generate_uid(), "1.2.3"
    ds.SeriesInstanceUID, ds.Modality, ds.InstanceNumber = f"1.2.3.{series}", "CT", number
    ds.ImageOrientationPatient, ds.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, z]
    ds.PixelSpacing, ds.SliceThickness, ds.Rows, ds.Columns = [1, 1], 2.5, 4, 4
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = 1, "MONOCHROME2", 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.RescaleSlope, ds.RescaleIntercept = 16, 12, 11, 1, 0
    ds.PixelData = np.full((4, 4), value, np.uint16).tobytes()
    ds.save_as(f"{folder}/{series}-{number}.dcm", enforce_file_format=True)


for i in range(3):
    write("two", 1, i + 1, 2.5 * i, i)
    write("two", 2, i + 1, 2.5 * i, 10 + i)
    write("one", 1, (1, 3, 2)[i], 2.5 * i, i)  # the value says the place
two, one = LoadImage(image_only=True)("two"), LoadImage(image_only=True)("one")
print("MONAI", monai.__version__, "pydicom", pydicom.__version__)
print("two series: slices", two[0, 0].tolist(), "spacing", float(two.affine[2, 2]))
print("numbers 1, 3, 2: slices", one[0, 0].tolist(), "spacing", round(float(one.affine[2, 2]), 3))
assert two.shape == (4, 4, 6) and {v >= 10 for v in two[0, 0, :3].tolist()} == {True, False}, "no longer mixed"
assert abs(two.affine[2, 2]) == 1, "the spacing is another one now"
assert one[0, 0].tolist() == [0, 2, 1], "slices are no longer ordered by InstanceNumber"
PYTHON
