"""Writes scans as CT DICOM, the way a scanner would, and marked as simulated in every file."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from data_prep.phantom.patients import Patient
from data_prep.phantom.scanner import PIXELS, Scan

SIMULATED = "SIMULATED: NAMD phantom, no patient"
BASELINE_DATE = date(2000, 1, 1)
IMPLEMENTATION_UID = generate_uid(entropy_srcs=["NAMD phantom"])


def write_series(scan: Scan, patient: Patient, year: int, days: int, seed: int, folder: Path) -> None:
    """Writes one scan, a file a slice; the names do not follow the slices' order.

    Args:
        scan: what to write.
        patient: whose.
        year: 0 or 1 (T0, T1).
        days: since T0.
        seed: of the phantom; UIDs follow from it.
        folder: made where it is not.
    """
    folder.mkdir(parents=True, exist_ok=True)
    key = f"NAMD phantom {seed} {patient.pid}"
    names = np.random.default_rng([seed, patient.pid, year, 9]).permutation(len(scan.hu))
    dataset = _dataset()
    _describe(dataset, patient, year, days, key, scan)
    for number, plane in enumerate(scan.hu):
        uid = generate_uid(entropy_srcs=[key, f"T{year}", "slice", str(number)])
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid
        dataset.InstanceNumber = len(scan.hu) - number  # from the head down, as most scanners count
        _place(dataset, scan, number)
        _pixels(dataset, plane)
        dataset.save_as(folder / f"IM{names[number] + 1:04d}.dcm", enforce_file_format=True)


def _dataset() -> FileDataset:
    """An empty CT image, as yet without its UID."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = IMPLEMENTATION_UID
    meta.ImplementationVersionName = "NAMD_PHANTOM"
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID = CTImageStorage
    return dataset


def _describe(dataset: FileDataset, patient: Patient, year: int, days: int, key: str, scan: Scan) -> None:
    """Patient, study, series and equipment."""
    day = (BASELINE_DATE + timedelta(days=days)).strftime("%Y%m%d")
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    dataset.StudyDate = dataset.SeriesDate = dataset.ContentDate = day
    dataset.StudyTime = dataset.SeriesTime = dataset.ContentTime = "120000"
    dataset.AccessionNumber = ""
    dataset.Modality = "CT"
    dataset.Manufacturer = "NAMD phantom"
    dataset.ReferringPhysicianName = ""
    dataset.StudyDescription = f"SIMULATED screening CT T{year}"
    dataset.SeriesDescription = f"SIMULATED {scan.kernel}"
    dataset.PatientName = f"PHANTOM^{patient.pid}"
    dataset.PatientID = str(patient.pid)
    dataset.PatientBirthDate = ""
    dataset.PatientSex = "MF"[patient.gender - 1]
    dataset.PatientAge = f"{patient.age + round(days / 365.25):03d}Y"
    dataset.PatientPosition = "HFS"
    dataset.KVP = "120"
    dataset.ConvolutionKernel = scan.kernel
    dataset.StudyInstanceUID = generate_uid(entropy_srcs=[key, f"T{year}", "study"])
    dataset.SeriesInstanceUID = generate_uid(entropy_srcs=[key, f"T{year}", "series"])
    dataset.FrameOfReferenceUID = generate_uid(entropy_srcs=[key, f"T{year}", "frame"])
    dataset.PositionReferenceIndicator = ""
    dataset.StudyID = f"T{year}"
    dataset.SeriesNumber = 1
    dataset.AcquisitionNumber, dataset.ImagesInAcquisition = 1, len(scan.hu)
    dataset.BurnedInAnnotation = "NO"
    dataset.DerivationDescription = SIMULATED
    dataset.ImageComments = SIMULATED


def _place(dataset: FileDataset, scan: Scan, number: int) -> None:
    """Where the slice is, mm, LPS."""
    pixel, thickness = scan.spacing
    x, y, z = (round(float(value), 3) for value in scan.origin + [0.0, 0.0, number * thickness])
    dataset.ImagePositionPatient = [x, y, z]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing = [pixel, pixel]
    dataset.SliceThickness = thickness
    dataset.SpacingBetweenSlices = thickness
    dataset.SliceLocation = z


def _pixels(dataset: FileDataset, plane: NDArray[np.int16]) -> None:
    """HU of a plane (column, row) as 12 bits."""
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows = dataset.Columns = PIXELS
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = -1024, 1, "HU"
    dataset.WindowCenter, dataset.WindowWidth = -600, 1500
    dataset.PixelData = (plane.T.astype(np.int32) + 1024).astype("<u2").tobytes()
