#!/usr/bin/env bash
# What happens   A mask of five slices becomes a DICOM Segmentation with highdicom. What comes back is neither five slices
#                nor in their order: frames without a labelled pixel are left out, get_volume() spans only from the first
#                to the last labelled slice, and its first slice is the highest, where the sources' first was the lowest.
#                Only the affine tells. An all-empty mask, though, comes back with all its slices.
# Versions       highdicom 0.28.2, pydicom 3.0.2
# One expects    the mask that was put in, slice by slice as the source images given with it.
# Source         highdicom's documentation: omit_empty_frames is on; a Volume's slices follow a right-handed order.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet highdicom==0.28.2 pydicom==3.0.2 numpy==2.4.6
venv/bin/python -W ignore - <<'PYTHON'
import highdicom as hd
import numpy as np
import pydicom
from pydicom.sr.codedict import codes
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

EMPTY = (  # type 2, may be empty
    "PatientID PatientName PatientBirthDate PatientSex StudyDate StudyTime StudyID AccessionNumber "
    "ReferringPhysicianName Manufacturer PositionReferenceIndicator"
).split()
print("highdicom", hd.__version__, "pydicom", pydicom.__version__)


def slice_at(z):
    ds = pydicom.Dataset()
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    for name in EMPTY:
        setattr(ds, name, None)
    ds.SOPClassUID, ds.SOPInstanceUID, ds.FrameOfReferenceUID = CTImageStorage, generate_uid(), "1.2.3.5"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.Modality, ds.InstanceNumber = "1.2.3", "1.2.3.4", "CT", int(z) + 1
    ds.ImageOrientationPatient, ds.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, z]
    ds.PixelSpacing, ds.SliceThickness, ds.Rows, ds.Columns = [1, 1], 2, 4, 4
    return ds


def back(*labelled):
    """Frames, slices read back and the height of the first, of a mask with one pixel in each of these slices."""
    mask = np.zeros((5, 4, 4), bool)
    mask[list(labelled), 1, 1] = True
    tissue = hd.seg.SegmentDescription(1, "nodule", codes.SCT.Tissue, codes.SCT.Tissue, "MANUAL")
    sources = [slice_at(2.0 * i) for i in range(5)]
    made = hd.seg.Segmentation(sources, mask, "BINARY", [tissue], hd.UID(), 1, hd.UID(), 1, "maker", "model", "1", "1")
    made.save_as("seg.dcm")
    volume = hd.seg.segread("seg.dcm").get_volume(combine_segments=True)
    height = float(volume.affine[2, 3])  # of its first slice
    print(f"labelled {labelled}: frames {made.NumberOfFrames}, shape {volume.shape}, its first slice at {height} mm")
    return int(made.NumberOfFrames), volume.array[:, 1, 1].tolist(), height


assert back(0, 1, 2, 3, 4) == (5, [1] * 5, 8.0), "the first slice is no longer the highest"
assert back(1, 3) == (2, [1, 0, 1], 6.0), "empty slices at the ends come back now"
assert back(2) == (1, [1], 4.0), "empty frames are kept now"
assert back() == (5, [0] * 5, 8.0), "an empty mask comes back otherwise now"
PYTHON
