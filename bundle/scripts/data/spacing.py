"""The spacing of crops' pixels. Networks see no millimetres: they know it by their training crops alone."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from scripts.arrays import Array
from scripts.data.datalist import pairs

logger = logging.getLogger(__name__)

TOLERANCE = 0.05
"""Relative difference up to which two spacings count as the same."""


def pixel_spacing(dataset_dir: str | Path, section: str = "training") -> float | None:
    """The spacing in mm that all baselines of a section share in plane; None where they differ, or there are none."""
    spacings = _spacings(item["baseline"] for item in pairs(dataset_dir, section))
    return float(spacings.flat[0]) if spacings.size and np.ptp(spacings) <= TOLERANCE * spacings.min() else None


def warn_of_spacing(items: Sequence[Mapping[str, Any]], pixel_mm: float | None) -> None:
    """Warns where crops' spacing differs from that of the weights' training crops.

    Args:
        items: with ``image``, a path.
        pixel_mm: that of training; None where it varied or is not known.
    """
    spacings = _spacings(item["image"] for item in items)
    if pixel_mm and (np.abs(spacings - pixel_mm) > TOLERANCE * pixel_mm).any():
        logger.warning(
            f"Pixels are {spacings.min():.2g} to {spacings.max():.2g} mm, but the weights were trained on crops of "
            f"{pixel_mm:g} mm, so nodules look larger or smaller to them. `python -m data_prep cohort --spacing "
            f"{pixel_mm:g}` cuts such crops."
        )


def _spacings(paths: Iterable[str]) -> Array:
    """mm along both axes in plane, (N, 2), from the headers."""
    affines = [nib.load(path).affine for path in paths]  # type: ignore[attr-defined]
    return np.array([np.linalg.norm(affine[:3, :2], axis=0) for affine in affines]).reshape(-1, 2)
