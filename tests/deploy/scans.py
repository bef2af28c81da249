"""A drawn chest as a DICOM series, its nodule, and a record."""

from __future__ import annotations

from pathlib import Path

import numpy as np

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

    def edit(_: int, item) -> None:
        item.PatientAge, item.PatientSex, item.PatientName = "061Y", "F", "Doe^Jane"

    planes = np.stack([chest(256, 1.5).T] * 3)
    write_series(folder, planes, stack(3, (at[0] - 122.0, at[1] - 192.0, at[2] - 2.0)), spacing=(1.5, 1.5), edit=edit)
    return folder
