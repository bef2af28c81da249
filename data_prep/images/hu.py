"""Stored values to HU: the bits that are stored, padding, and what can be no HU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.uid import HTJ2K, JPEG2000, JPEGBaseline8Bit, JPEGLSNearLossless
from scipy import ndimage

from data_prep.errors import ImageError
from data_prep.images.content import HU_RANGE
from data_prep.images.decoders import TWELVE_BITS, decode

AIR = HU_RANGE[0]

LOSSY_SYNTAXES = frozenset({JPEGBaseline8Bit, JPEGLSNearLossless, JPEG2000, HTJ2K}) | TWELVE_BITS
"""Compressed pixels that are not, or need not be, those of the scanner."""

COARSEST_HU = 16.0
"""Greatest step between two stored values; scanners store steps of 1, some reconstructions of 10."""

HIGHEST_HU = 32767.0
"""Beyond any scale of CT; an unsigned value of 63536 is the padding value -2000."""

TOO_LOW = (-1990.0, -1100.0)
"""Between the values that scanners pad with and air: noise at most, unless the intercept was added twice."""

LEAST_OUTSIDE = 0.01
"""Share of a plane that has to be without values to be outside the field of view: a circle leaves 21 %."""

SOFT_TISSUE = (-200.0, 300.0)

RESCALE_TYPES = ("", "HU", "US", "HU_MOD")
"""``RescaleType``: Hounsfield units, modified ones, or unspecified."""

LOSSY = "lossy"
"""``intent_name`` of images whose pixels were compressed with loss."""

Pixels = NDArray[np.float32]


def decoded(path: Path, dataset: pydicom.Dataset) -> Pixels:
    """HU of a slice, (rows, columns), NaN where it is padded.

    Raises:
        ImageError: not HU, or so coarse that they show no nodule.
        Exception: whatever a decoder raises.
    """
    slope, intercept = float(dataset.RescaleSlope), float(dataset.RescaleIntercept)
    kind = str(dataset.get("RescaleType") or "").strip()
    if kind not in RESCALE_TYPES:
        raise ImageError(path, "not HU", f"by its RescaleType ({kind}); expected HU. Name the CT series.")
    if dataset.BitsStored <= 8 or slope > COARSEST_HU:
        raise ImageError(
            path,
            "coarse HU",
            f"{dataset.BitsStored} bits in steps of {slope:g} HU (RescaleSlope); expected steps of 1. Fetch the "
            "original, before it was compressed.",
        )
    if dataset.get("SamplesPerPixel", 1) != 1:
        raise ImageError(path, "not greyscale", "by its SamplesPerPixel; expected 1. Name the CT series.")
    raw = decode(path, dataset)
    stored = _stored(path, raw, dataset)
    hu = stored.astype(np.float32) * np.float32(slope) + np.float32(intercept)
    hu[_padded(path, raw, stored, dataset)] = np.nan
    return hu


def is_lossy(dataset: pydicom.Dataset) -> bool:
    """Whether the pixels were compressed with loss, now or before."""
    told = str(dataset.get("LossyImageCompression") or "").strip()
    return told == "01" or (told != "00" and dataset.file_meta.TransferSyntaxUID in LOSSY_SYNTAXES)


def _stored(path: Path, raw: NDArray, dataset: pydicom.Dataset) -> NDArray:
    """The bits that hold the value (DICOM PS3.5, 8.1.1): others may hold overlays, or anything.

    Raises:
        ImageError: ``HighBit`` says that the value lies in other bits than it does.
    """
    bits, high, allocated = int(dataset.BitsStored), int(dataset.HighBit), 8 * raw.dtype.itemsize
    if raw.dtype.kind not in "iu" or not 0 < bits <= high + 1 <= allocated:
        return raw
    if (below := high + 1 - bits) and (raw & (2**below - 1)).any():
        # Nothing may stand below the value; a writer that forgot HighBit has nothing above it.
        if (raw >> bits).any():
            raise ImageError(path, "malformed HighBit", f"{high} with {bits} bits stored. Export it again.")
        high = bits - 1
    return (raw << (allocated - 1 - high)) >> (allocated - bits)


def _padded(path: Path, raw: NDArray, stored: NDArray, dataset: pydicom.Dataset) -> NDArray[np.bool_]:
    """Pixels outside the field of view: ``PixelPaddingValue``, or from it to ``PixelPaddingRangeLimit``.

    Writers state the value of signed pixels as an unsigned one too, and one that the stored bits cannot hold.
    """
    value = dataset.get("PixelPaddingValue")
    if value is None or value == "" or raw.dtype.kind not in "iu":
        return np.zeros(raw.shape, bool)
    limit = dataset.get("PixelPaddingRangeLimit")
    try:
        ends = [int(value), int(value if limit is None or limit == "" else limit)]
    except (TypeError, ValueError) as error:
        raise ImageError(path, "malformed PixelPaddingValue", "expected a number. Export it again.", error) from error
    bits = int(dataset.BitsStored)
    if any(not -(2 ** (bits - 1)) <= end < 2**bits for end in ends):
        stored, bits = raw, 8 * raw.dtype.itemsize
    lowest = -(2 ** (bits - 1)) if raw.dtype.kind == "i" else 0
    first, last = sorted((end - lowest) % 2**bits + lowest for end in ends)
    return (stored >= first) & (stored <= last)


def within_the_field_of_view(image: Path, hu: Pixels, voxel: NDArray[np.float64]) -> Pixels:
    """A plane whose pixels outside the field of view are air.

    Outside is what has no value (NaN): of a DICOM series all of it, for that is padding; of a file what reaches the
    plane's edge, unless it is a few pixels only, which are damage.

    Args:
        image: whether it is a folder tells which; and for the message.
        hu: (columns, rows).
        voxel: the nodule's.

    Raises:
        ImageError: the nodule is outside; or the values can be no HU.
    """
    missing = np.isnan(hu)
    if missing.any():
        outside = missing if image.is_dir() else _at_the_edge(missing)
        nodule = tuple(int(index) for index in np.clip(np.rint(voxel), 0, np.array(hu.shape) - 1))
        if outside[nodule]:
            raise ImageError(image, "nodule outside the field of view", "where the image has no values. Check x, y, z.")
        hu = np.where(outside, np.float32(AIR), hu)
        _refuse_no_hu(image, hu[~missing])
    else:
        _refuse_no_hu(image, hu)
    return hu


def _at_the_edge(missing: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Of the pixels without a value, those that reach the edge of the plane; none where they are few."""
    regions, _ = ndimage.label(missing)
    edge = np.concatenate([regions[0], regions[-1], regions[:, 0], regions[:, -1]])
    outside = np.isin(regions, np.unique(edge[edge > 0]))
    return outside if outside.mean() >= LEAST_OUTSIDE else np.zeros_like(outside)


def _refuse_no_hu(image: Path, hu: Pixels) -> None:
    """Values that no CT has: unsigned padding, or an intercept that was added twice."""
    if not hu.size:
        raise ImageError(image, "not HU", "no pixel has a value. Export it again.")
    if (highest := hu.max(initial=0.0, where=hu < np.inf)) > HIGHEST_HU:
        raise ImageError(
            image,
            "not HU",
            f"values to {highest:g}, beyond any CT: signed values stored as unsigned, or padding without "
            "PixelPaddingValue. Export it again.",
        )
    if hu.min() > TOO_LOW[1]:
        return
    low = np.count_nonzero((hu > TOO_LOW[0]) & (hu < TOO_LOW[1])) / hu.size
    soft = np.count_nonzero((hu > SOFT_TISSUE[0]) & (hu < SOFT_TISSUE[1])) / hu.size
    if low > 0.05 and soft < 0.005:
        raise ImageError(
            image,
            "not HU",
            f"{low:.0%} of the pixels lie below air and none are soft tissue, as where the intercept was added twice "
            "(RescaleIntercept of values that are HU already). Export it again.",
        )
