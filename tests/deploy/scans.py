"""A drawn chest as a DICOM series, its nodule, and a record."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import generate_uid

from tests.data_prep.helpers import EHR, stack, write_series

RECORD = {**EHR, "age": 61, "gender": 2, "sct_epi_loc": 3, "sct_long_dia": 9}
"""Of a nodule in the right lower lobe."""

POINT = (-70.0, 0.0, 102.0)
"""The nodule's middle in :func:`series`."""


def chest(size: int = 400, step: float = 2.0, middle: float = 0.0) -> np.ndarray:
    """HU (x, y) of a chest 320 mm wide in air, two lungs and a nodule of 8 mm in the right one (LPS)."""
    axis = (np.arange(size) - size // 2) * step
    x, y = axis[:, None] - middle, axis
    hu = np.where(np.hypot(x / 160, y / 110) < 1, 40.0, -1000.0)
    for side in (-75, 75):
        hu = np.where(np.hypot((x - side) / 55, y / 80) < 1, -850.0, hu)
    return np.where(np.hypot(x - POINT[0], y - POINT[1]) < 4, 30.0, hu)


def write_chest(folder: Path, at: tuple[float, ...] = POINT) -> Path:
    """Three slices of it, the nodule's middle at a point, of a patient of 61 years, female."""
    study, frame = generate_uid(), generate_uid()

    def edit(_: int, item) -> None:
        item.PatientAge, item.PatientSex, item.PatientName, item.PatientID = "061Y", "F", "Doe^Jane", "MRN-4711"
        item.StudyInstanceUID, item.FrameOfReferenceUID = study, frame
        item.StudyDate, item.AccessionNumber, item.PatientPosition = "20240229", "ACC-815", "HFS"
        item.PatientBirthDate = item.StudyTime = item.StudyID = item.ReferringPhysicianName = ""

    planes = np.stack([chest(256, 1.5).T] * 3)
    write_series(folder, planes, stack(3, (at[0] - 122.0, at[1] - 192.0, at[2] - 2.0)), spacing=(1.5, 1.5), edit=edit)
    return folder


def edit_slices(folder: Path, **changed: str) -> None:
    """Gives every slice of a series other values."""
    for path in folder.glob("*.dcm"):
        item = pydicom.dcmread(path)
        for keyword, value in changed.items():
            setattr(item, keyword, value)
        item.save_as(path)


def write_ramp(folder: Path, orientation: tuple[float, ...]) -> Path:
    """Three slices whose HU say where they are (:func:`ramp`), in any orientation of the rows and columns."""
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    # Rows and columns; a multiple of 8 pixels, since GDCM misreads the last bits of other segmentations.
    middle, size, spacing = np.array([10.0, -20.0, 102.0]), np.array([88, 112]), (0.8, 0.6)
    corner = middle - column * spacing[0] * size[0] / 2 - row * spacing[1] * size[1] / 2
    rows, columns = np.indices(size)
    places = corner + rows[..., None] * spacing[0] * column + columns[..., None] * spacing[1] * row
    planes = np.stack([np.rint(ramp(places[..., 0], places[..., 1]))] * 3)
    study, frame = generate_uid(), generate_uid()

    def edit(_: int, item) -> None:
        item.StudyInstanceUID, item.FrameOfReferenceUID = study, frame

    write_series(folder, planes, stack(3, (*corner[:2], 100.0)), orientation, spacing, edit)
    return folder


def ramp(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """HU at mm, LPS: no two places of a crop have the same."""
    return -500 + 8 * (x - 10) + 3 * (y + 20)
