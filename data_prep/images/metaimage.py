"""MetaImage (``.mha``, ``.mhd``), which LUNA16 and LUNA25 are published in, by SimpleITK."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from data_prep.errors import ImageError


def open_metaimage(path: Path) -> nib.Nifti1Image:
    """A volume as nibabel opens files: header and RAS+ affine at once, and of the values what is sliced.

    Raises:
        ImageError: the file cannot be read or has no three axes, or SimpleITK is not installed.
    """
    values = _Values(path)
    reader = values.reader
    if len(values.shape) != 3:
        raise ImageError(path, "not three dimensions", f"shape {values.shape}; expected three. Give one CT image.")
    lps = np.eye(4)
    lps[:3, :3] = np.reshape(reader.GetDirection(), (3, 3)) * reader.GetSpacing()
    lps[:3, 3] = reader.GetOrigin()
    return nib.Nifti1Image(values, np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps, dtype=values.dtype)


class _Values:
    """nibabel's array proxy: reads the part of the file that it is sliced for, all of it if that is compressed."""

    is_proxy = True
    dtype = np.dtype(np.float32)

    def __init__(self, path: Path) -> None:
        try:
            import SimpleITK
        except ImportError as error:
            raise ImageError(path, "no reader for MetaImage", "install one, as by pip install SimpleITK.") from error
        self.path, self.itk, self.reader = path, SimpleITK, SimpleITK.ImageFileReader()
        self.reader.SetImageIO("MetaImageIO")
        self.reader.SetFileName(str(path))
        self._asked(self.reader.ReadImageInformation)
        self.shape: tuple[int, ...] = self.reader.GetSize()
        self.ndim = len(self.shape)

    def __getitem__(self, slices: tuple[slice, ...]) -> np.ndarray:
        ranges = [range(count)[part] for count, part in zip(self.shape, slices, strict=True)]
        self.reader.SetExtractIndex([part.start for part in ranges])
        self.reader.SetExtractSize([len(part) for part in ranges])
        return self.itk.GetArrayFromImage(self._asked(self.reader.Execute)).T.astype(self.dtype)

    def _asked(self, read: Any) -> Any:
        """What SimpleITK reads; its errors become an :class:`ImageError`."""
        try:
            return read()
        except RuntimeError as error:
            raise ImageError(self.path, "unreadable MetaImage", "fetch it again.", error) from error
