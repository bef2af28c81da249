#!/usr/bin/env bash
# What happens   highdicom leaves frames without a labelled pixel out of a DICOM Segmentation and stores the others from
#                the top down, segment after segment, each with its position. SimpleITK makes one stack of all frames.
#                Where they are not evenly spaced, or there are two segments, it takes 1 mm between them and counts up
#                from the first: a mask of 2 mm slices halves in volume and reaches above the scan. Where every second
#                slice has no label the volume is doubled. One segment without gaps is read rightly. No warning.
# Versions       SimpleITK 2.5.7 (ITK 5.4), highdicom 0.28.2, pydicom 3.0.2
# One expects    each frame at its own position and one image per segment, or an error. highdicom's reader is right.
# Source         DICOM PS3.3, Segmentation IOD: each frame has its Plane Position and its segment's number. Issue 991 of
#                ITK-Wasm, of the same reader, has the 1 mm and the mixed segments, not what becomes of place and gaps.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet SimpleITK==2.5.7 highdicom==0.28.2 pydicom==3.0.2 numpy==2.4.6
venv/bin/python -W ignore - <<'PYTHON'
import highdicom as hd
import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.sr.codedict import codes
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

EMPTY = (  # type 2, may be empty
    "PatientID PatientName PatientBirthDate PatientSex StudyDate StudyTime StudyID AccessionNumber "
    "ReferringPhysicianName Manufacturer PositionReferenceIndicator"
).split()
TISSUE = (codes.SCT.Tissue, codes.SCT.Tissue, "MANUAL")
print("SimpleITK", sitk.Version.VersionString(), "highdicom", hd.__version__, "pydicom", pydicom.__version__)


def slice_at(z):
    ds = pydicom.Dataset()
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    for name in EMPTY:
        setattr(ds, name, None)
    ds.SOPClassUID, ds.SOPInstanceUID, ds.FrameOfReferenceUID = CTImageStorage, generate_uid(), "1.2.3.5"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.Modality, ds.InstanceNumber = "1.2.3", "1.2.3.4", "CT", int(z) + 1
    ds.ImageOrientationPatient, ds.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, z]
    ds.PixelSpacing, ds.SliceThickness, ds.Rows, ds.Columns = [1, 1], 2, 8, 8
    return ds


def read(*segments):
    """SimpleITK's heights and volume of masks with 10 pixels in each of these slices, of five at 0, 2, 4, 6, 8 mm."""
    mask = np.zeros((5, 8, 8, len(segments)), np.uint8)
    for number, labelled in enumerate(segments):
        mask[list(labelled), :5, 2 * number : 2 * number + 2, number] = 1
    of = [hd.seg.SegmentDescription(i + 1, f"nodule {i + 1}", *TISSUE) for i in range(len(segments))]
    ct = [slice_at(2.0 * i) for i in range(5)]
    made = hd.seg.Segmentation(ct, mask, "BINARY", of, hd.UID(), 1, hd.UID(), 1, "maker", "model", "1", "1")
    made.save_as("seg.dcm")
    theirs = hd.seg.segread("seg.dcm").get_volume()  # with a channel per segment
    assert theirs.array.sum() * theirs.voxel_volume == mask.sum() * 2, "highdicom's reader has another volume"
    image = sitk.ReadImage("seg.dcm")
    heights = [image.TransformIndexToPhysicalPoint((0, 0, k))[2] for k in range(image.GetDepth())]
    volume = float((sitk.GetArrayFromImage(image) > 0).sum() * np.prod(image.GetSpacing()))
    stored = [float(f.PlanePositionSequence[0].ImagePositionPatient[2]) for f in made.PerFrameFunctionalGroupsSequence]
    print(f"frames at {stored} mm, {mask.sum() * 2} mm3; SimpleITK: at {heights} mm, {volume} mm3")
    return heights, volume


assert read((1, 2, 3)) == ([6, 4, 2], 60), "without a gap it is wrong now, too"
assert read((0, 2, 4)) == ([8, 4, 0], 120), "empty slices are no longer bridged"
assert read((0, 1, 4)) == ([8, 9, 10], 30), "uneven frames are no longer stacked upwards at 1 mm"
assert read((1, 2, 3), (2,)) == ([6, 7, 8, 9], 40), "two segments are no longer one stack"
PYTHON
