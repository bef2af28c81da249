"""What an image shows about a point: whether something there looks like a nodule, and whether its values can be HU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

HU_RANGE = (-1024, 3071)
"""What 12 bits hold with the usual intercept; scanners write other numbers outside their field of view."""

LUNG_HU = -400
"""Every crop about a lung nodule has pixels darker than this, since there is air in the lung."""

SOFT_HU = -700
"""And some that are brighter than this: vessels, walls, and the nodule, of ground glass too."""

PLATEAUS = {HU_RANGE[0]: 0.5, HU_RANGE[1]: 0.02}
"""Share of pixels with exactly the lowest or the highest value above which these were cut off, or are no HU."""

JUDGED_MM = 10.0
"""An image must reach so far about a point on all sides; a smaller one does not tell."""

NEAR_MM, CORE_MM, STEP_MM, SMOOTH_MM = 15.0, 1.5, 0.5, 0.4
AIR_HU, USUAL_LUNG_HU = -700.0, -850.0
RAYS = np.stack([turn(np.arange(32) * (2 * np.pi / 32)) for turn in (np.cos, np.sin)], axis=-1)

Plane = NDArray[np.floating]


@dataclass(frozen=True)
class Spot:
    """What lies at a point.

    Attributes:
        contrast: HU by which it is denser than lung.
        free: share of the directions in which it ends, half-way in density to lung, within 15 mm.
        length: how far it reaches in its longest tenth of directions, in medians of all: 1 of a disc, 4 of a vessel.
    """

    contrast: float
    free: float
    length: float

    @property
    def seen(self) -> bool:
        """Something nodule-like is there: 99 % of LIDC-IDRI's nodules, a fifth of the points in lung at random."""
        return self.contrast >= 100 and self.free >= 0.3

    @property
    def clear(self) -> bool:
        """And nothing else is likely."""
        return self.contrast >= 300 and self.free >= 0.9 and self.length <= 2.5


def spot(hu: Plane, at: Sequence[float] | Plane, spacing: Sequence[float] | Plane) -> Spot | None:
    """What lies at a point of a plane (x, y), in pixels; None where the plane ends too near to it to tell.

    As the outline of evaluation does, it holds the density about the point (the upper quartile, since ground glass is
    uneven) against that of lung, the median of what is darker than -700 HU nearby.
    """
    mm, place = np.asarray(spacing, dtype=float)[:2], np.asarray(at, dtype=float)[:2]
    reach = np.minimum(place, np.array(hu.shape) - 1 - place) * mm
    if reach.min() < JUDGED_MM:
        return None
    low = np.maximum(np.floor(place - NEAR_MM / mm).astype(int) - 2, 0)
    high = np.ceil(place + NEAR_MM / mm).astype(int) + 3
    part = ndimage.gaussian_filter(np.asarray(hu[low[0] : high[0], low[1] : high[1]], dtype=float), SMOOTH_MM / mm)
    middle = place - low
    x, y = (np.arange(count) * size - at * size for count, size, at in zip(part.shape, mm, middle, strict=True))
    distance = np.hypot(x[:, None], y)
    near = part[distance <= NEAR_MM]
    air = near[near < AIR_HU]
    lung = np.median(air) if air.size >= 0.02 * near.size else USUAL_LUNG_HU
    level = np.percentile(part[distance <= CORE_MM + mm.max() / 2], 75)
    radii = np.arange(STEP_MM, NEAR_MM + STEP_MM / 2, STEP_MM)
    where = middle[:, None, None] + (radii[:, None] * RAYS[:, None]).transpose(2, 0, 1) / mm[:, None, None]
    values = ndimage.map_coordinates(part, where, order=1, mode="nearest")
    lighter = values < (level + lung) / 2
    ends = lighter.any(axis=1)
    reached = np.where(ends, radii[lighter.argmax(axis=1)], NEAR_MM)
    return Spot(float(level - lung), float(ends.mean()), float(np.percentile(reached, 90) / np.median(reached)))


def not_hu(hu: Plane, spacing: Sequence[float] | Plane) -> list[str]:
    """Why the values of a crop cannot be HU of a nodule in lung; empty where they can.

    Rescaled twice, nothing is as dense as tissue and lung is cut off; not rescaled, there is no lung; padding of
    scanners read without its sign is cut off at the top.
    """
    large = min(hu.shape[:2] * np.asarray(spacing)[:2]) >= 2 * JUDGED_MM
    low, high = float(hu.min()), float(hu.max())
    faults = []
    if low < HU_RANGE[0] or high > HU_RANGE[1]:
        faults.append(f"values {low:g} to {high:g}; expected HU from {HU_RANGE[0]} to {HU_RANGE[1]}")
    if low > LUNG_HU or low == high:
        faults.append(f"values {low:g} to {high:g}: no lung in it, or not HU")
    elif large and (dense := float(np.percentile(hu, 99.5))) < SOFT_HU:
        faults.append(f"no soft tissue in it (99.5 % of the pixels below {dense:.0f} HU), as if rescaled twice")
    for value, most in PLATEAUS.items():
        if low < high and (share := float((hu == value).mean())) > most:
            faults.append(f"{share:.0%} of the pixels are {value}: cut off there, or no HU")
    return faults
