"""MetaImage (``.mha``, ``.mhd``), which LUNA16 and LUNA25 are published in, by SimpleITK."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from data_prep.errors import ImageError

ENDINGS = (".mha", ".mhd")


def geometry(path: Path) -> nib.Nifti1Image:
    """Shape and RAS+ affine of a volume, as an image without its values; no pixel is read.

    Raises:
        ImageError: the file cannot be read or has no three axes, or SimpleITK is not installed.
    """
    reader = _reader(path)
    if reader.GetDimension() != 3:
        raise ImageError(path, "not three dimensions", f"shape {reader.GetSize()}; expected three. Give one CT image.")
    lps = np.eye(4)
    lps[:3, :3] = np.reshape(reader.GetDirection(), (3, 3)) * reader.GetSpacing()
    lps[:3, 3] = reader.GetOrigin()
    return nib.Nifti1Image(np.broadcast_to(np.int16(0), reader.GetSize()), np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps)


def plane(path: Path, axis: int, index: int) -> nib.Nifti1Image:
    """Slice ``index`` along ``axis`` of a volume; no more is read of a file that is not compressed."""
    volume, reader = geometry(path), _reader(path)
    start, size = [0, 0, 0], list(volume.shape)
    start[axis], size[axis] = index, 1
    reader.SetExtractIndex(start)
    reader.SetExtractSize(size)
    affine = volume.affine.copy()
    affine[:3, 3] += index * affine[:3, axis]
    return nib.Nifti1Image(_values(path, reader), affine)


def _reader(path: Path) -> Any:
    try:
        import SimpleITK
    except ImportError as error:
        raise ImageError(path, "no reader for MetaImage", "install one, as by pip install SimpleITK.") from error
    reader = SimpleITK.ImageFileReader()
    reader.SetImageIO("MetaImageIO")
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise ImageError(path, "unreadable MetaImage", "fetch it again.", error) from error
    return reader


def _values(path: Path, reader: Any) -> np.ndarray:
    import SimpleITK

    try:
        return SimpleITK.GetArrayFromImage(reader.Execute()).T.astype(np.float32)
    except RuntimeError as error:
        raise ImageError(path, "unreadable MetaImage", "fetch it again.", error) from error
