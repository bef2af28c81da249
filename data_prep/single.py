"""One crop of one scan, without a cohort table: cut by the same code, and refused for the same reasons."""

from __future__ import annotations

import math
from pathlib import Path

import nibabel as nib

from data_prep.cutting import Centre
from data_prep.errors import DataError, ImageError
from data_prep.images import VOLUMES
from data_prep.images.crops import cut
from data_prep.unforeseen import UnforeseenError

SHOWN = {
    "nothing": "Nothing nodule-like lies at the point: look at the crop.",
    "RAS": "Nothing nodule-like lies at the point, but would if x and y counted to the other side (RAS): expected LPS.",
    "rather RAS": "Something more nodule-like would lie at the point if x and y counted to the other side (RAS): "
    "expected LPS.",
    "voxels": "Nothing nodule-like lies at the point, but would if x, y, z were voxels: expected mm, LPS.",
}
"""What to say of a crop, by what it shows at its point (:data:`data_prep.images.crops.POINTS`)."""


def point_of(text: str) -> Centre:
    """A point from ``x,y,z``.

    Raises:
        DataError: these are not three numbers.

    >>> point_of("-38.5, 20,112")
    (-38.5, 20.0, 112.0)
    """
    try:
        x, y, z = (float(part) for part in text.split(","))
    except ValueError:
        x = y = z = math.nan
    if not all(map(math.isfinite, (x, y, z))):
        raise DataError(f"--point {text}: expected x,y,z, three numbers in mm, LPS as in DICOM, such as -38.5,20,112.")
    return x, y, z


def place_of(point: Centre) -> str:
    """A point in words, mm to a tenth.

    >>> place_of((-38.5, 20.04, -0.01))
    '-38.5, 20, 0 mm'
    """
    return ", ".join(f"{round(each, 1) + 0.0:g}" for each in point) + " mm"


def cut_single(
    image: Path,
    point: Centre,
    size: int = 128,
    spacing: float | None = None,
    transform: str | None = None,
    series_uid: str | None = None,
) -> nib.Nifti1Image:
    """Cuts the crop of one nodule, see :func:`data_prep.images.crops.cut`, as a cohort's would be.

    Args:
        image: a NIfTI or MetaImage file, or a folder with a DICOM series.
        point: the nodule's centre, mm, LPS.

    Raises:
        DataError: the image is not there or no image, cannot be read or placed, or the nodule lies outside it.
    """
    if not image.exists():
        raise DataError(
            f"{image}: no such file or folder; expected NIfTI, MetaImage or a folder with one DICOM series."
        )
    if not image.is_dir() and not image.name.endswith(VOLUMES):
        raise DataError(f"{image}: expected one of {', '.join(VOLUMES)}, or a folder with one DICOM series.")
    try:
        return cut(image, point, size, spacing, transform, series_uid)
    except ImageError:
        raise
    except Exception as error:  # readers raise what they like
        raise UnforeseenError(image, error) from error
