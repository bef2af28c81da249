"""Pixels of a DICOM file as they are stored, by pydicom and its plugins or, what these leave out, by GDCM itself."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.pixels import get_decoder
from pydicom.uid import UID, JPEGExtended12Bit

TWELVE_BITS = frozenset({JPEGExtended12Bit, UID("1.2.840.10008.1.2.4.53"), UID("1.2.840.10008.1.2.4.55")})
"""JPEG with loss of 12 bits (processes 4, 8 and 12), which pydicom does not hand to GDCM."""


def can_decode(syntax: UID) -> bool:
    """Whether pydicom, or a plugin that is installed, decodes it."""
    if not syntax.is_compressed:
        return True
    if syntax in TWELVE_BITS:
        return find_spec("gdcm") is not None
    try:
        return bool(get_decoder(syntax).is_available)
    except NotImplementedError:
        return False


def decode(path: Path, dataset: pydicom.Dataset) -> NDArray:
    """All bits of the pixels, (rows, columns); those that are not stored among them."""
    if dataset.file_meta.TransferSyntaxUID in TWELVE_BITS:
        return _by_gdcm(path, dataset)
    dataset.pixel_array_options(correct_unused_bits=False)
    return dataset.pixel_array


def _by_gdcm(path: Path, dataset: pydicom.Dataset) -> NDArray:
    """Raises a ``ValueError`` where GDCM cannot read the file."""
    import gdcm

    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    if not reader.Read():
        raise ValueError("GDCM cannot read the pixels")
    values = reader.GetImage().GetBuffer().encode("utf-8", "surrogateescape")  # SWIG makes text of bytes
    kind = f"<{'i' if dataset.PixelRepresentation else 'u'}{dataset.BitsAllocated // 8}"
    return np.frombuffer(values, kind).reshape(dataset.Rows, dataset.Columns)
