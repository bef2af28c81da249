#!/usr/bin/env bash
# What happens   In an Enhanced (multi-frame) CT or PET each frame may have its own rescale, as PET slices often do.
#                SimpleITK applies the first frame's to all: below, two frames of a PET are 0.4 and 4 times what they
#                should be. pydicom's apply_modality_lut sees only the top of the file and gives stored numbers, even
#                where all frames have one rescale: 100 instead of -924 HU. highdicom is right. None of them warns.
# Versions       SimpleITK 2.5.7 (ITK 5.4), highdicom 0.28.2, pydicom 3.0.2
# One expects    each frame's own values, as of a series of single slices with different slopes, or an error.
# Source         DICOM PS3.3, Pixel Value Transformation functional group: shared or per frame. pydicom's issue 2353 has
#                pydicom's half; of SimpleITK's nothing was found.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet SimpleITK==2.5.7 highdicom==0.28.2 pydicom==3.0.2 numpy==2.4.6
venv/bin/python - <<'PYTHON'
import highdicom as hd
import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.pixels import apply_modality_lut
from pydicom.uid import EnhancedCTImageStorage, EnhancedPETImageStorage, ExplicitVRLittleEndian

print("SimpleITK", sitk.Version.VersionString(), "highdicom", hd.__version__, "pydicom", pydicom.__version__)


def item(**elements):
    ds = pydicom.Dataset()
    for name, value in elements.items():
        setattr(ds, name, value)
    return ds


def read(kind, modality, unit, rescales):
    """A frame for each (slope, intercept), every stored pixel 100: the frames by the standard and as read by three."""
    ds = item(SOPClassUID=kind, SOPInstanceUID="1.2.3.6", StudyInstanceUID="1.2.3", SeriesInstanceUID="1.2.3.4")
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.Modality, ds.FrameOfReferenceUID, ds.InstanceNumber, ds.PatientID = modality, "1.2.3.5", 1, "P"
    ds.NumberOfFrames, ds.Rows, ds.Columns, ds.SamplesPerPixel = len(rescales), 4, 4, 1
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
    ds.PhotometricInterpretation = "MONOCHROME2"
    axes, sizes = item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0]), item(PixelSpacing=[1, 1], SliceThickness=2)
    ds.SharedFunctionalGroupsSequence = [item(PlaneOrientationSequence=[axes], PixelMeasuresSequence=[sizes])]
    places = [item(ImagePositionPatient=[0, 0, 2 * k]) for k in range(len(rescales))]
    scales = [item(RescaleSlope=a, RescaleIntercept=b, RescaleType=unit) for a, b in rescales]
    ds.PerFrameFunctionalGroupsSequence = [
        item(PlanePositionSequence=[p], PixelValueTransformationSequence=[s]) for p, s in zip(places, scales)
    ]
    ds.PixelData = np.full((len(rescales), 4, 4), 100, np.uint16).tobytes()
    ds.save_as("image.dcm", enforce_file_format=True)
    right = np.array([100 * a + b for a, b in rescales])
    highdicom = hd.imread("image.dcm").get_frames()[:, 0, 0]
    itk = sitk.GetArrayFromImage(sitk.ReadImage("image.dcm"))[:, 0, 0]
    plain = apply_modality_lut(pydicom.dcmread("image.dcm").pixel_array, pydicom.dcmread("image.dcm"))[:, 0, 0]
    print(modality, "frames", right, "highdicom", highdicom, "SimpleITK", itk, "pydicom", plain)
    assert (highdicom == right).all(), "highdicom is no longer right"
    assert (itk == right[0]).all(), "SimpleITK no longer applies the first frame's rescale to all"
    assert (plain == 100).all(), "pydicom rescales frames now"


read(EnhancedPETImageStorage, "PT", "US", [(2, 0), (5, 0), (0.5, 0)])
read(EnhancedCTImageStorage, "CT", "HU", [(1, -1024), (1, -1000)])
read(EnhancedCTImageStorage, "CT", "HU", [(1, -1024), (1, -1024)])
PYTHON
