"""The follow-up of a baseline crop: the same chest about a nodule that has grown, seen by a scanner once more."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage

REACH_MM, REACH_RADII = 6.0, 1.2
"""Beyond the grown nodule, growth falls off as a square over the larger of the two."""
RIPPLE = 0.3
"""By which share growth differs around the nodule, at most."""
WAVES = (2, 3, 4, 5)
"""How often the ripple's waves go up and down on the way around the nodule."""
TURN_DEGREES, SHIFT_MM, NOISE_HU = 3.0, 0.3, 8.0
"""Standard deviations. The noise is as in LIDC-progression: in lung, neighbouring pixels of a follow-up differ by as
much more than those of its baseline, interpolated."""

HU = NDArray[np.float32]
Mask = NDArray[np.bool_]


def follow_up(hu: HU, mask: Mask, growth: float, spacing: tuple[float, float], rng: Generator) -> tuple[HU, Mask]:
    """A baseline crop and its nodule's mask, both (W, H), as they are after a growth of the diameter.

    A point r of the follow-up, from the nodule's centroid, shows the baseline's point r growth^-(1 + ripple) inside the
    grown nodule, and less of that the farther it is from it.

    Args:
        hu: HU.
        mask: where the nodule is; not empty.
        growth: follow-up diameter over baseline diameter.
        spacing: mm between pixels along both axes.
        rng: of the ripple, of how the patient lies, and of the noise.

    Returns:
        Follow-up and mask, of the same shape. What would lie beyond the crop's edge is as its last pixels.
    """
    sizes, phases = rng.standard_normal(len(WAVES)), rng.uniform(0.0, 2.0 * np.pi, len(WAVES))
    angle, shift = np.radians(TURN_DEGREES) * rng.standard_normal(), SHIFT_MM * rng.standard_normal(2)
    pixel = np.array(spacing)[:, None, None]
    centre = np.array(ndimage.center_of_mass(mask))[:, None, None]
    places = (np.indices(hu.shape) - centre) * pixel - shift[:, None, None]
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    places = np.einsum("ij,jxy->ixy", turn, places)
    around = np.arctan2(places[1], places[0])
    ripple = sum(a * np.cos(n * around + phase) for n, a, phase in zip(WAVES, sizes, phases, strict=True))
    rate = np.log(growth) * (1.0 + RIPPLE * ripple / np.abs(sizes).sum())
    grown = _sampled(mask.astype(np.float32), places * np.exp(-rate) / pixel + centre) > 0.5
    distance = ndimage.distance_transform_edt(~grown, sampling=spacing) if grown.any() else np.hypot(*places)
    radius = np.sqrt(mask.sum() * spacing[0] * spacing[1] / np.pi)
    part = np.clip(1.0 - distance / max(REACH_MM, REACH_RADII * radius), 0.0, None) ** 2
    seen = _sampled(hu, places * np.exp(-part * rate) / pixel + centre)
    return seen + np.float32(NOISE_HU) * rng.standard_normal(hu.shape, dtype=np.float32), grown


def _sampled(image: HU, points: NDArray[np.float64]) -> HU:
    """Values at points (2, W, H) in pixels, linear between pixels."""
    return np.asarray(ndimage.map_coordinates(image, points, order=1, mode="nearest"), dtype=np.float32)
