"""NIfTI: what is wrong with a file, in words, and where its header puts the voxels."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError
from numpy.typing import NDArray

from data_prep.errors import ImageError
from data_prep.images import Transform

APART_MM = 0.1
"""Distance between the places that two transforms give a voxel up to which they agree; rounding stays far below."""

Affine = NDArray[np.float64]

UNITS_MM = {1: 1000.0, 3: 0.001}
"""Millimetres in a header's unit of length by its code, but for mm; nibabel passes them over, ITK does not."""


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns what reading a broken NIfTI raises into a :class:`ImageError`."""
    try:
        yield
    except (ImageFileError, HeaderDataError, WrapStructError, OSError, EOFError, ValueError, zlib.error) as error:
        raise ImageError(path, "unreadable NIfTI", "fetch or convert it again.", error) from error


def in_one_place(path: Path, image: nib.Nifti1Image, transform: str | None, centred: bool) -> nib.Nifti1Image:
    """The image with the geometry that its header gives, in mm; refused where it gives none, or two.

    nibabel takes the sform where it is set, ITK decides by the codes, so that the same point is not the same voxel.

    Args:
        transform: which of two that differ is right.
        centred: without a point that has a place, it does not matter where the image is as a whole.
    """
    found = _transforms(path, image.header)
    if transform is None and len(found) > 1:
        mm = apart(found[Transform.QFORM], found[Transform.SFORM], image.shape, centred)
        if mm > APART_MM:
            raise ImageError(
                path,
                "two geometries",
                f"qform and sform are both set and put voxels up to {mm:.3g} mm apart; expected them to agree. Find "
                "out which is right, and say it with --transform qform or --transform sform.",
            )
    affine = found.get(transform or Transform.SFORM, next(iter(found.values())))
    same = np.array_equal(affine, image.affine)
    return image if same else nib.Nifti1Image(image.dataobj, affine, dtype=np.float32)


def apart(one: Affine, other: Affine, shape: Sequence[int], centred: bool = False) -> float:
    """How far from each other two affines put a voxel at most, mm; ``centred``: but for a shift of the whole image."""
    corners = np.array([*product(*((0, count - 1) for count in shape), [1])])
    shift = (corners @ (one - other).T)[:, :3]
    return float(np.linalg.norm(shift - shift.mean(axis=0) if centred else shift, axis=1).max())


def _transforms(path: Path, header: nib.Nifti1Header) -> dict[str, Affine]:
    """The affines (voxel to mm, RAS+) that are set; refused where there is none, or one that places nothing."""
    unit = UNITS_MM.get(int(header["xyzt_units"]) % 8, 1.0)
    stored = {str(name): getattr(header, f"get_{name}")(coded=True)[0] for name in Transform}
    found = {name: np.diag([unit, unit, unit, 1.0]) @ affine for name, affine in stored.items() if affine is not None}
    if not found:
        raise ImageError(path, "no orientation", "sform_code and qform_code are 0; expected one. Convert it again.")
    for name, affine in found.items():
        if not np.isfinite(affine).all() or not np.linalg.norm(affine[:3, :3], axis=0).all():
            raise ImageError(path, "no orientation", f"by its {name}, voxels have no size. Convert it again.")
    return found
