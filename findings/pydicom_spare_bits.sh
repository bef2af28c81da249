#!/usr/bin/env bash
# What happens   CT pixels often have 12 of 16 bits in use, and what stands in the four spare bits is open (old scanners
#                kept overlays there). pydicom 3's pixel_array clears them and, for signed pixels, extends the sign from
#                the 12th bit; pydicom 2's returns the 16 bits as they stand. The same file and line give other values:
#                -2048 or 2048, 5 or 4101, without a warning of either release.
# Versions       pydicom 2.4.4 and 3.0.2, numpy 1.26.4
# One expects    a major release to change names, not pixels; SimpleITK agrees with pydicom 3.
# Source         DICOM PS3.5, section 8.1.1 (bits beyond those stored are not part of the pixel); the list of
#                breaking changes in the notes of release 3.0.0 does not name it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
cat > read.py <<'PYTHON'
import sys

import numpy as np
import pydicom
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

ds = pydicom.Dataset()
ds.file_meta = pydicom.dataset.FileMetaDataset()
ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = CTImageStorage
ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = "1.2.3"
ds.is_little_endian, ds.is_implicit_VR = True, False
ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, 4, 1, "MONOCHROME2"
ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 12, 11
ds.PixelData = np.array([0x0005, 0x1005, 0x0800, 0xF800], np.uint16).tobytes()
result = []
for ds.PixelRepresentation in (0, 1):
    ds.save_as("a.dcm", write_like_original=False)
    result.append(pydicom.dcmread("a.dcm").pixel_array.ravel().tolist())
print("pydicom", pydicom.__version__, "unsigned", result[0], "signed", result[1])
spare_kept = [[5, 4101, 2048, 63488], [5, 4101, 2048, -2048]]
spare_cleared = [[5, 5, 2048, 2048], [5, 5, -2048, -2048]]
sys.exit(result != (spare_cleared if pydicom.__version__ >= "3" else spare_kept))
PYTHON
for version in 2.4.4 3.0.2; do
    python3 -m venv "$version"
    "$version"/bin/pip install --quiet pydicom=="$version" numpy==1.26.4
    "$version"/bin/python -W ignore read.py
done
