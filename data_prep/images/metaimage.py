"""MetaImage (``.mha``, ``.mhd``), which LUNA16 and LUNA25 are published in, by SimpleITK."""

from __future__ import annotations

import glob
import re
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from data_prep.errors import ImageError
from data_prep.images import METAIMAGE

LONGEST_LINE = 4096
"""Bytes of a header's line that are read at once; values that follow a header have no lines."""

SPACING = frozenset({b"ElementSpacing", b"ElementSize"})
"""Either tells the size of pixels; where both are missing, SimpleITK takes 1 mm."""

LONGEST_HEADER = 65536


def open_metaimage(path: Path) -> nib.Nifti1Image:
    """A volume as nibabel opens files: header and RAS+ affine at once, and of the values what is sliced.

    Raises:
        ImageError: the file cannot be read, has no three axes or no spacing, or SimpleITK is not installed.
    """
    values = _Values(path)
    reader = values.reader
    if not _keys(path) & SPACING:
        raise ImageError(path, "missing ElementSpacing", "without it there are no millimetres. Export it again.")
    if len(values.shape) != 3:
        raise ImageError(path, "not three dimensions", f"shape {values.shape}; expected three. Give one CT image.")
    lps = np.eye(4)
    lps[:3, :3] = np.reshape(reader.GetDirection(), (3, 3)) * reader.GetSpacing()
    lps[:3, 3] = reader.GetOrigin()
    return nib.Nifti1Image(values, np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps, dtype=values.dtype)


def data_files(path: Path) -> list[Path]:
    """The files that hold a MetaImage's values, by its header; none where they follow the header, or of other images.

    The header may name one file, a pattern with numbers (``slice%03d.raw 1 20 1``) or, after ``LIST``, one file a line.
    """
    if not path.name.endswith(METAIMAGE) or not path.is_file():
        return []
    with open(path, "rb") as file:
        for line in iter(partial(file.readline, LONGEST_LINE), b""):
            key, _, value = line.decode("latin-1").partition("=")
            if key.strip() == "ElementDataFile":
                break
        else:
            return []
        name = value.strip()
        if name.upper() == "LOCAL":
            return []
        if name.startswith("LIST"):
            return [path.parent / line.decode("latin-1").strip() for line in file if line.strip()]
    first = name.split(maxsplit=1)[0] if name else ""
    if "%" in first:
        return sorted(path.parent.glob(re.sub(r"%\d*d", "*", glob.escape(first))))
    return [path.parent / name] if name else []


def _keys(path: Path) -> set[bytes]:
    """What the text at a file's beginning tells; its last key is ElementDataFile."""
    with open(path, "rb") as file:
        text = file.read(LONGEST_HEADER).partition(b"ElementDataFile")[0]
    return {line.partition(b"=")[0].strip() for line in text.splitlines()}


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
