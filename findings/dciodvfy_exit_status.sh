#!/usr/bin/env bash
# What happens   dciodvfy, the usual checker of DICOM objects, prints lines that begin with "Error" and ends with status 0:
#                for an attribute that is younger than the tool (SyntheticData, in the standard by now, on an
#                otherwise clean CT), and for a CT whose ImageType lacks its required third value. For other errors, such
#                as an unknown PatientSex, it ends with 1. A build that trusts the status passes objects with errors.
# Versions       dicom3tools 1.00~20220618 (Debian 12), file written with pydicom 3.0.2
# One expects    a status other than 0 whenever an error is printed.
# Source         the manual page says nothing of an exit status; the attribute: DICOM PS3.6, (0008,001C).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet pydicom==3.0.2
apt-get -o APT::Sandbox::User=root download --quiet=2 dicom3tools=1.00~20220618093127-2
dpkg -x dicom3tools_*.deb deb
venv/bin/python - deb/usr/bin/dciodvfy <<'PYTHON'
import subprocess
import sys

import pydicom
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

EMPTY = (  # type 2, may be empty
    "PatientName PatientID PatientBirthDate PatientSex StudyDate StudyTime StudyID AccessionNumber SeriesNumber "
    "ReferringPhysicianName Manufacturer PositionReferenceIndicator AcquisitionNumber KVP"
).split()
print("pydicom", pydicom.__version__)


def check(**changes):
    ds = pydicom.Dataset()
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    for name in EMPTY:
        setattr(ds, name, None)
    ds.SOPClassUID, ds.SOPInstanceUID, ds.FrameOfReferenceUID = CTImageStorage, "1.2.3.4.5", "1.2.3.9"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.Modality, ds.InstanceNumber = "1.2.3", "1.2.3.4", "CT", 1
    ds.ImageType, ds.PatientPosition, ds.BodyPartExamined = ["ORIGINAL", "PRIMARY", "AXIAL"], "HFS", "CHEST"
    ds.ImageOrientationPatient, ds.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, 0]
    ds.PixelSpacing, ds.SliceThickness, ds.Rows, ds.Columns = [1, 1], 2, 4, 4
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = 1, "MONOCHROME2", 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.RescaleSlope, ds.RescaleIntercept = 16, 12, 11, 1, -1024
    ds.PixelData = bytes(32)
    for name, value in changes.items():
        setattr(ds, name, value)
    ds.save_as("a.dcm", enforce_file_format=True)
    done = subprocess.run([sys.argv[1], "a.dcm"], capture_output=True, text=True)
    errors = [line for line in done.stderr.splitlines() if line.startswith("Error")]
    print(changes, "status", done.returncode, *errors)
    return done.returncode, len(errors)


assert check() == (0, 0), "the plain CT is not clean"
assert check(SyntheticData="YES") == (0, 1), "a newer attribute is known, or fails, now"
assert check(ImageType=["ORIGINAL", "PRIMARY"]) == (0, 1), "a missing value of ImageType fails now"
assert check(PatientSex="X") == (1, 1), "an unknown code no longer fails"
PYTHON
