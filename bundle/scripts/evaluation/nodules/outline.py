"""The outline of the nodule at the middle of a crop: the cheapest closed path in polar coordinates.

Dynamic programming over the rays from a point inside finds the best of all closed outlines, as in Wang et al.,
"Segmentation of pulmonary nodules in three-dimensional CT images by use of a spiral-scanning technique", Med Phys 34
(2007). A vessel or the chest wall takes the edge away from some rays only, and there the outline goes on smoothly from
its neighbours, so that nothing has to tell a nodule from what it touches. The threshold lies between the lung and the
nodule's own level, both read from the crop: that serves solid, part-solid and ground-glass nodules alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from scripts.arrays import Array

RAYS = 64

STEP = 0.25
"""mm between the radii that an outline may have."""

SMALLEST = 1.0
"""mm, the smallest radius: what cannot be told from lung is measured as a nodule of 2 mm, never as nothing."""

VISIBLE = 100.0
"""HU by which the middle of a crop must be denser than lung for a nodule to count as found."""

EDGE = 0.4
"""Contrast (2 at most) that an outline must have on average; with less, no edge is in sight."""

CORE = 1.5
"""mm about the middle, where the nodule's own level is read."""

AIR, LUNG = -700.0, -850.0
"""HU: what is below the first is lung; the second stands for lung where a crop shows none."""


@dataclass(frozen=True)
class Settings:
    """The method's constants.

    They were chosen on the baseline masks of LIDC-progression's training section alone, from the plateau where neither
    Dice nor the error of the long diameter gains any more (`benchmarks/nodule_outline.py`).

    Attributes:
        smoothing: mm, standard deviation of the Gaussian before everything else.
        fraction: the threshold's place between lung (0) and the nodule's own level (1).
        softness: HU from the threshold to certainty.
        window: mm on both sides of an outline, over which the contrast there is taken.
        gap: cost of a mm of lung inside the outline.
        bend: cost of a step of radius between neighbouring rays.
    """

    smoothing: float = 0.4
    fraction: float = 0.2
    softness: float = 80.0
    window: float = 1.0
    gap: float = 0.3
    bend: float = 0.06


@dataclass(frozen=True)
class Outlines:
    """Outlines of N nodules.

    Attributes:
        points: (N, RAYS, 2) mm along the two axes of the crop, from the centre of its first pixel, in order around.
        found: (N,) False where nothing at the middle is denser than lung; the outline is then the smallest there is.
        cut: (N,) True where the outline reaches the edge of the crop or follows none: the nodule is larger than what is
            seen, or cannot be told from what it lies in.
    """

    points: Array
    found: NDArray[np.bool_]
    cut: NDArray[np.bool_]


def outline(hu: Array, spacing: Array, settings: Settings | None = None) -> Outlines:
    """Outlines the nodules at the middle of crops.

    Args:
        hu: (N, H, W), finite.
        spacing: (N, 2) mm between pixels along both axes.
    """
    settings = settings or Settings()
    smooth = np.stack(
        [ndimage.gaussian_filter(crop, settings.smoothing / pixel) for crop, pixel in zip(hu, spacing, strict=True)]
    )
    extent = (np.array(hu.shape[1:]) - 1) * spacing
    centres = np.array(hu.shape[1:]) // 2 * spacing
    lung, level = _levels(smooth, spacing, centres)
    threshold = lung + settings.fraction * (level - lung)
    found = level - lung >= VISIBLE
    dense = np.clip((smooth - threshold[:, None, None]) / settings.softness, -1.0, 1.0)
    dense[~found] = -1.0
    radii = np.arange(SMALLEST, max(SMALLEST, float(extent.max()) / 2) + STEP, STEP)
    points = np.empty((len(hu), RAYS, 2))
    for _ in range(2):  # again from the middle of the first outline, whose edge the rays then meet more squarely
        costs, contrast = _costs(dense, spacing, centres, radii, settings)
        path = _closed_path(costs, settings.bend)
        points = centres[:, None] + radii[path][..., None] * DIRECTIONS
        centres = points.mean(axis=1)
    edge = np.minimum(points, extent[:, None] - points).min(axis=(1, 2))
    sharpness = np.take_along_axis(contrast, path[..., None], axis=-1).mean(axis=(1, 2))
    return Outlines(points, found, found & ((edge < spacing.max(axis=1)) | (sharpness < EDGE)))


DIRECTIONS = np.stack([turn(np.arange(RAYS) * (2 * np.pi / RAYS)) for turn in (np.cos, np.sin)], axis=-1)
"""(RAYS, 2)"""


def _levels(smooth: Array, spacing: Array, centres: Array) -> tuple[Array, Array]:
    """HU of lung and of the nodule (N,): the median of what is lung, and the upper quartile about the middle.

    The quartile, for the middle of a ground-glass nodule is uneven, and that of a nodule of 3 mm has lung around it.
    """
    lung, level = [], []
    for crop, pixel, centre in zip(smooth, spacing, centres, strict=True):
        air = crop[crop < AIR]
        lung.append(np.median(air) if air.size >= 0.02 * crop.size else LUNG)
        x, y = (np.arange(count) * size - middle for count, size, middle in zip(crop.shape, pixel, centre, strict=True))
        core = np.hypot(x[:, None], y) <= CORE + pixel.max() / 2
        level.append(np.percentile(crop[core], 75))
    return np.array(lung), np.array(level)


def _costs(dense: Array, spacing: Array, centres: Array, radii: Array, settings: Settings) -> tuple[Array, Array]:
    """The cost of an outline at each radius, and the contrast across it there, which makes it low.

    Lung on the way out costs as well, so that no outline leaps over a gap to a brighter edge behind it.

    Args:
        dense: (N, H, W), from -1 (lung) to 1 (nodule).

    Returns:
        Both (N, RAYS, R), the contrast from -2 to 2.
    """
    reach = round(settings.window / STEP)
    first = round(SMALLEST / STEP)
    samples = STEP * np.arange(1, first + len(radii) + reach)
    where = (centres[:, None, None] + samples[:, None] * DIRECTIONS[:, None]) / spacing[:, None, None]
    case = np.broadcast_to(np.arange(len(dense))[:, None, None], where.shape[:-1])
    values = ndimage.map_coordinates(dense, [case, where[..., 0], where[..., 1]], order=1, mode="nearest")
    total = np.concatenate([np.zeros_like(values[..., :1]), np.cumsum(values, axis=-1)], axis=-1)
    at = first + np.arange(len(radii))  # the number of samples up to and with each radius
    inner = np.maximum(at - reach, 0)
    contrast = (total[..., at] - total[..., inner]) / (at - inner) - (total[..., at + reach] - total[..., at]) / reach
    lung = STEP * np.cumsum(np.maximum(-values, 0.0), axis=-1)[..., at - 1]
    return settings.gap * lung - 0.5 * contrast, contrast


def _closed_path(costs: Array, bend: float, most: int = 3) -> NDArray[np.int64]:
    """The cheapest path around, (N, RAYS), as indices of radii; neighbouring rays differ by `most` steps at most.

    It goes around twice, and the middle half is kept: where the path began and will end no longer matters there.
    """
    around = np.concatenate([costs, costs], axis=1)
    count, length, size = around.shape
    places, most = np.arange(size), min(most, size - 1)
    jumps = np.arange(-most, most + 1)
    best, origins = around[:, 0], np.zeros((length, count, size), dtype=np.int64)
    for ray in range(1, length):
        moves = np.full((len(jumps), count, size), np.inf)
        for move, jump in zip(moves, jumps, strict=True):
            to = places[max(0, jump) : size + min(0, jump)]
            move[:, to] = best[:, to - jump] + bend * abs(jump)
        origins[ray] = places - jumps[moves.argmin(axis=0)]
        best = around[:, ray] + moves.min(axis=0)
    path = np.empty((count, length), dtype=np.int64)
    path[:, -1] = best.argmin(axis=1)
    for ray in range(length - 1, 0, -1):
        path[:, ray - 1] = np.take_along_axis(origins[ray], path[:, ray, None], axis=1)[:, 0]
    half = costs.shape[1] // 2
    return np.roll(path[:, half : half + costs.shape[1]], half, axis=1)
