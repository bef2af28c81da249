"""The outline of the nodule at the centre of a crop, as the closed path of least cost in polar coordinates.

Dynamic programming over rays from a point inside finds the optimal closed outline, as in Wang et al., "Segmentation of
pulmonary nodules in three-dimensional CT images by use of a spiral-scanning technique", Med Phys 34 (2007). On each ray
it is then moved to where the density crosses the threshold, between the candidate radii, so that sizes have no steps.
Where a vessel or the chest wall touches the nodule, some rays have no edge; there the outline continues smoothly from
its neighbours. The threshold lies between the density of lung and that of the nodule, both estimated from the crop, so
it suits solid, part-solid and ground-glass nodules alike. Accuracy: benchmarks/README.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from scripts.arrays import Array

RAYS = 64
"""Number of rays, evenly spaced in angle."""

STEP = 0.25
"""Distance in mm between candidate radii."""

REACH = 2
"""Steps inwards and outwards from the path of least cost within which the threshold is looked for."""

SMALLEST = 1.0
"""Smallest radius in mm; a nodule that cannot be distinguished from lung is measured as 2 mm in diameter."""

VISIBLE = 100.0
"""HU by which the centre of a crop must exceed lung for a nodule to count as found."""

EDGE = 0.4
"""Mean contrast, at most 2, below which an outline does not follow an edge."""

CORE = 1.5
"""Radius in mm about the centre within which the nodule's density is estimated."""

AIR, LUNG = -700.0, -850.0
"""HU below which a pixel is lung, and the density of lung for crops that show none."""


@dataclass(frozen=True)
class Settings:
    """The method's constants.

    They were chosen on the baseline masks of LIDC-progression's training section alone, where neither Dice nor the
    error of the long diameter improves any further (`benchmarks/nodule_outline.py`).

    Attributes:
        smoothing: standard deviation in mm of the Gaussian filter that is applied first.
        fraction: position of the threshold between lung (0) and the nodule's density (1).
        softness: HU above and below the threshold at which a pixel is certainly nodule or lung.
        window: mm on both sides of an outline over which its contrast is averaged.
        gap: cost per mm of lung inside the outline.
        bend: cost per step of the radius between neighbouring rays.
    """

    smoothing: float = 0.4
    fraction: float = 0.25
    softness: float = 80.0
    window: float = 1.0
    gap: float = 0.3
    bend: float = 0.06


@dataclass(frozen=True)
class Outlines:
    """Outlines of N nodules.

    Attributes:
        points: (N, RAYS, 2), in mm along the two axes of the crop from the centre of its first pixel, in order.
        found: (N,), False where the centre is not denser than lung; the outline is then the smallest one.
        cut: (N,), True where the outline reaches the border of the crop or follows no edge: the nodule is larger than
            the crop, or cannot be distinguished from its surroundings.
    """

    points: Array
    found: NDArray[np.bool_]
    cut: NDArray[np.bool_]


def outline(hu: Array, spacing: Array, settings: Settings | None = None) -> Outlines:
    """Outlines the nodules at the centre of crops.

    Args:
        hu: (N, H, W), finite.
        spacing: (N, 2) mm between pixels along both axes.

    Example:
        >>> x, y = np.mgrid[-20:21, -20:21]
        >>> crop = np.where(np.hypot(x, y) <= 6, 50.0, -850.0)  # a solid disc of 12 mm at 1 mm a pixel
        >>> outlines = outline(crop[None], np.ones((1, 2)))
        >>> width = np.ptp(outlines.points[0], axis=0)
        >>> outlines.found.tolist(), bool((np.abs(width - 12) < 1.5).all())
        ([True], True)
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
    above = smooth - threshold[:, None, None]
    above[~found] = -settings.softness
    dense = np.clip(above / settings.softness, -1.0, 1.0)
    radii = np.arange(SMALLEST, max(SMALLEST, float(extent.max()) / 2) + STEP, STEP)
    for again in (True, False):  # from the centroid of the first outline, for more even rays
        costs, contrast = _costs(dense, spacing, centres, radii, settings)
        path = _closed_path(costs, settings.bend)
        if again:
            centres = centres + (radii[path][..., None] * DIRECTIONS).mean(axis=1)
    points = centres[:, None] + _crossings(above, spacing, centres, radii[path])[..., None] * DIRECTIONS
    edge = np.minimum(points, extent[:, None] - points).min(axis=(1, 2))
    sharpness = np.take_along_axis(contrast, path[..., None], axis=-1).mean(axis=(1, 2))
    return Outlines(points, found, found & ((edge < spacing.max(axis=1)) | (sharpness < EDGE)))


DIRECTIONS = np.stack([turn(np.arange(RAYS) * (2 * np.pi / RAYS)) for turn in (np.cos, np.sin)], axis=-1)
"""Unit vectors of the rays, (RAYS, 2)."""


def _levels(smooth: Array, spacing: Array, centres: Array) -> tuple[Array, Array]:
    """Densities in HU of lung and of the nodule, (N,) each: the median of lung, the upper quartile about the centre.

    A quartile, since ground-glass nodules are uneven, and the neighbourhood of a small nodule includes lung.
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
    """The cost of each radius on each ray, and the contrast across the outline there, which lowers the cost.

    Lung inside the outline adds cost, so that it does not include a gap in order to reach a stronger edge behind it.

    Args:
        dense: (N, H, W), from -1 (lung) to 1 (nodule).

    Returns:
        Both (N, RAYS, R) for R radii; the contrast is -2 to 2.
    """
    reach = round(settings.window / STEP)
    first = round(SMALLEST / STEP)
    samples = STEP * np.arange(1, first + len(radii) + reach)
    values = _along_rays(dense, spacing, centres, np.broadcast_to(samples, (len(dense), RAYS, len(samples))))
    total = np.concatenate([np.zeros_like(values[..., :1]), np.cumsum(values, axis=-1)], axis=-1)
    at = first + np.arange(len(radii))  # number of samples up to each radius, itself included
    inner = np.maximum(at - reach, 0)
    contrast = (total[..., at] - total[..., inner]) / (at - inner) - (total[..., at + reach] - total[..., at]) / reach
    lung = STEP * np.cumsum(np.maximum(-values, 0.0), axis=-1)[..., at - 1]
    return settings.gap * lung - 0.5 * contrast, contrast


def _along_rays(images: Array, spacing: Array, centres: Array, radii: Array) -> Array:
    """Values of images (N, H, W) at radii (N, RAYS, R) in mm, linear between pixels; beyond the edge, the edge's."""
    where = (centres[:, None, None] + radii[..., None] * DIRECTIONS[:, None]) / spacing[:, None, None]
    case = np.broadcast_to(np.arange(len(images))[:, None, None], radii.shape)
    return ndimage.map_coordinates(images, [case, where[..., 0], where[..., 1]], order=1, mode="nearest")


def _crossings(above: Array, spacing: Array, centres: Array, radii: Array) -> Array:
    """Radii (N, RAYS) in mm at which rays leave the nodule, each the nearest to the given one within :data:`REACH`.

    Where a ray does not leave it there, the radius stays as it is.

    Args:
        above: (N, H, W), HU above the threshold.
        radii: (N, RAYS) in mm.
    """
    samples = radii[..., None] + STEP * np.arange(-REACH, REACH + 1)
    values = _along_rays(above, spacing, centres, samples)
    inner, outer = values[..., :-1], values[..., 1:]
    leaves = (inner > 0) & (outer <= 0)
    share = np.divide(inner, inner - outer, out=np.zeros_like(inner), where=leaves)
    crossings = samples[..., :-1] + STEP * share
    far = np.where(leaves, np.abs(crossings - radii[..., None]), np.inf)
    nearest = np.take_along_axis(crossings, far.argmin(axis=-1)[..., None], axis=-1)[..., 0]
    return np.where(leaves.any(axis=-1), np.maximum(nearest, SMALLEST), radii)


def _closed_path(costs: Array, bend: float, most: int = 3) -> NDArray[np.int64]:
    """The closed path of least cost, (N, RAYS) indices of radii; neighbouring rays differ by at most `most` steps.

    The path is computed over two turns, of which the middle half is kept, so that it hardly depends on start and end.
    """
    around = np.concatenate([costs, costs], axis=1)
    count, length, size = around.shape
    most = min(most, size - 1)
    jumps = np.arange(-most, most + 1)
    best = np.full((count, size + 2 * most), np.inf)  # no path comes from beyond the radii
    inside = slice(most, most + size)
    best[:, inside] = around[:, 0]
    moves, chosen = np.empty((len(jumps), count, size)), np.zeros((length, count, size), dtype=np.int8)
    for ray in range(1, length):
        for move, jump in zip(moves, jumps, strict=True):
            np.add(best[:, most - jump : most - jump + size], bend * abs(jump), out=move)
        chosen[ray] = moves.argmin(axis=0)
        np.add(around[:, ray], moves.min(axis=0), out=best[:, inside])
    path, cases = np.empty((count, length), dtype=np.int64), np.arange(count)
    path[:, -1] = best[:, inside].argmin(axis=1)
    for ray in range(length - 1, 0, -1):
        at = path[:, ray]
        path[:, ray - 1] = at - jumps[chosen[ray, cases, at]]
    half = costs.shape[1] // 2
    return np.roll(path[:, half : half + costs.shape[1]], half, axis=1)
