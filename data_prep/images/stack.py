"""Whether the slices of a series are one straight, whole stack."""

from __future__ import annotations

import filecmp
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.errors import ImageError

Tags = Mapping[str, Any]
"""Tags of one file, by keyword."""

AXIS_TOLERANCE = 1e-3
"""Greatest sine between an image axis and a patient axis: 0.05 mm over the width of a crop."""

POSITION_TOLERANCE_MM = 0.05

ROUNDING_MM = 0.1
"""Scanners and archives that round positions do it to this."""

PASSES = ("AcquisitionNumber", "TemporalPositionIdentifier", "ConvolutionKernel", "SliceThickness")
"""What is the same in all slices of one acquisition and reconstruction, or changes from block to block."""

COUNTERS = ("AcquisitionTime", "InstanceNumber")
"""What rises or falls along one acquisition."""

SHARE_OF_STEPS = 0.7
"""Of several acquisitions that interleave, at least so many neighbours in time have the same number of slices between
them; of slices in no order, fewer."""


def axes(folder: Path, headers: Sequence[Tags]) -> NDArray[np.float64]:
    """Columns: along a row, along a column, their normal towards the head; refused unless they are patient axes."""
    cosines = np.array(headers[0]["ImageOrientationPatient"], dtype=float)
    row, column = cosines[:3], cosines[3:]
    lengths = np.array([np.linalg.norm(row), np.linalg.norm(column), 1.0 + row @ column])
    if np.abs(lengths - 1.0).max() > AXIS_TOLERANCE:
        raise ImageError(
            folder,
            "malformed ImageOrientationPatient",
            "expected two directions of length 1 at right angles. Export the series again.",
        )
    normal = np.cross(row, column)
    if abs(normal[2]) < np.cos(np.pi / 4):
        raise ImageError(folder, "non-axial", "by its ImageOrientationPatient; expected axial slices.")
    if abs(normal[2]) < np.sqrt(1 - AXIS_TOLERANCE**2):
        raise ImageError(
            folder,
            "gantry tilt",
            "or oblique slices, by ImageOrientationPatient; expected slices at right angles to the patient's long "
            "axis. Take or reconstruct an axial series.",
        )
    if np.abs(row).max() < np.sqrt(1 - AXIS_TOLERANCE**2):
        raise ImageError(folder, "rotated", "by ImageOrientationPatient; expected rows along a patient axis.")
    # Sorting towards the head serves prone and supine scans alike; (row, column, normal) may be left-handed.
    return np.stack([row, column, normal * np.sign(normal[2])], axis=1)


def order(folder: Path, paths: Sequence[Path], origins: NDArray[np.float64], normal: NDArray[np.float64]) -> list[int]:
    """The slices from the feet to the head, each once: a second file with the same bytes is a copy.

    Raises:
        ImageError: different slices at one place.
    """
    heights = origins @ normal
    kept: list[int] = []
    for index in np.argsort(heights, kind="stable"):
        if kept and heights[index] - heights[kept[-1]] < POSITION_TOLERANCE_MM:
            if filecmp.cmp(paths[index], paths[kept[-1]], shallow=False):
                continue
            raise ImageError(
                folder,
                "duplicate slices",
                "by ImagePositionPatient; expected each once. Keep one acquisition and one reconstruction a folder.",
            )
        kept.append(int(index))
    return kept


def step(folder: Path, origins: NDArray[np.float64], axes: NDArray[np.float64], thickness: float) -> float:
    """Distance between neighbouring slices, mm; a single slice has its thickness.

    Raises:
        ImageError: the slices are not evenly spaced along a straight line.
    """
    if len(origins) == 1:
        return thickness
    offsets = (origins - origins[0]) @ axes
    # Each slice keeps its own origin, so a drift of up to 1 % (0.6 degrees) does no harm.
    if np.abs(offsets[:, :2]).max() > ROUNDING_MM + 0.01 * np.ptp(offsets[:, 2]):
        raise ImageError(
            folder,
            "gantry tilt",
            "ImagePositionPatient moves sideways from slice to slice; expected a straight stack. Take an untilted "
            "series.",
        )
    heights = offsets[:, 2]
    steps = np.diff(heights)
    usual = float(np.median(steps))
    odd = np.abs(steps - usual) > max(0.05 * usual, POSITION_TOLERANCE_MM)
    if not odd.any():
        return usual
    even = _even_step(heights, np.arange(len(heights)))
    if even is not None:
        return even
    multiples = np.rint(steps / steps.min())
    even = _even_step(heights, np.append(0.0, np.cumsum(multiples)))
    if even is not None:
        first = int(np.argmax(multiples > 1))
        raise ImageError(
            folder,
            "missing slices",
            f"{int((multiples - 1).sum())}, the first after z = {origins[first, 2]:g} mm; expected one every "
            f"{even:g} mm. Fetch the series again.",
        )
    raise ImageError(
        folder,
        "mixed slice spacing",
        f"{steps.min():g} to {steps.max():g} mm; expected one. Keep one reconstruction a folder.",
    )


def _even_step(heights: NDArray[np.float64], numbers: NDArray) -> float | None:
    """The distance between neighbours of an even grid that the heights lie on but for rounding; None: on none."""
    slope, start = np.polyfit(numbers, heights, 1)
    off = np.abs(heights - (start + slope * numbers)).max()
    return round(float(slope), 4) if off <= max(0.05 * slope, ROUNDING_MM) else None


def one_acquisition(folder: Path, headers: Sequence[Tags]) -> None:
    """Refuses slices of several acquisitions or reconstructions that alternate along the patient.

    Blocks that follow each other along the patient are taken: each slice is of one of them.

    Args:
        folder: for the message.
        headers: from the feet to the head.
    """
    for tag in PASSES:
        if len(distinct(headers, tag)) == 1:
            continue
        values = [_plain(header[tag]) for header in headers if header.get(tag) not in (None, "")]
        changes = sum(first != second for first, second in zip(values, values[1:], strict=False))
        # Some scanners make the outermost slices thinner.
        least = max(2, len(set(values)), len(values) / 3 if tag == "SliceThickness" else 0)
        if changes >= least:
            _several(folder, tag)
    for tag in COUNTERS:
        numbers = np.array([number(header.get(tag)) for header in headers])
        if len(headers) < 4 or not np.isfinite(numbers).all():
            continue
        shared = np.unique(numbers, return_counts=True)[1]
        if tag == "InstanceNumber" and len(shared) > 1 and shared.min() == shared.max() > 1:
            _several(folder, tag)
        gaps = np.bincount(np.abs(np.diff(np.argsort(numbers))))
        if shared.max() == 1 and len(headers) > 4 and gaps.argmax() > 1 and gaps.max() > SHARE_OF_STEPS * gaps.sum():
            _several(folder, tag)


def distinct(headers: Sequence[Tags], tag: str) -> list[Any]:
    """A tag's values, each object once: the reader gives one for all files that have the same bytes."""
    return [*{id(value): value for value in (header.get(tag) for header in headers)}.values()]


def _plain(value: Any) -> float | str:
    """A tag's value so that it can be compared: 2.5 and 2.50 are the same."""
    plain = number(value)
    return round(plain, 3) if np.isfinite(plain) else str(value)


def _several(folder: Path, tag: str) -> None:
    raise ImageError(
        folder,
        "several acquisitions",
        f"or reconstructions, by {tag}: their slices alternate. Keep one of them a series.",
    )


def number(value: Any) -> float:
    """A tag's value as a number, NaN where it is none."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")
