"""Fields and shapes, sampled on the pixels of one plane.

A plane's pixels are given as ``x`` (X, 1) and ``y`` (1, Y), float32 mm, and its height as ``z``. Coverage is the share
of a pixel that a shape fills, 0 to 1, so that edges are smooth and thin vessels fade instead of breaking up.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage

from scripts.arrays import Array


class Noise:
    """A smooth random field of mean 0 and deviation 1 in three dimensions, periodic, fixed by its generator.

    Args:
        correlation: over what distance values hang together, mm.
    """

    def __init__(self, rng: Generator, correlation: float, shape: tuple[int, int, int] = (96, 96, 24)) -> None:
        self.spacing = correlation / 1.5
        lattice = ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), 1.0, mode="wrap")
        self.lattice = lattice / lattice.std()

    def __call__(self, x: Array, y: Array, z: float, every: int = 1) -> Array:
        """The field at points of a regular grid, (X, Y) each, and one height, mm.

        Args:
            every: look up each so many-th point along both axes, the others lie on the lines between; it saves time
                where the field changes slowly.
        """
        level = z / self.spacing
        low = int(np.floor(level))
        depth = self.lattice.shape[2]
        weight = np.float32(level - low)
        plane = (1 - weight) * self.lattice[..., low % depth] + weight * self.lattice[..., (low + 1) % depth]
        points = np.stack([x[::every, ::every], y[::every, ::every]]) / np.float32(self.spacing)
        coarse = ndimage.map_coordinates(plane, points, order=1, mode="grid-wrap", prefilter=False)
        return coarse if every == 1 else _between(x.shape[0], every) @ coarse @ _between(x.shape[1], every).T


@lru_cache
def _between(count: int, every: int) -> Array:
    """Matrix (count, knots) that interpolates linearly from each ``every``-th point to all; constant past the last."""
    knots = np.arange(0, count, every)
    columns = [np.interp(np.arange(count), knots, unit) for unit in np.eye(len(knots))]
    return np.stack(columns, axis=1).astype(np.float32)


@dataclass
class Tubes:
    """Straight tapering tubes: vessels, airways, spicules.

    Attributes:
        start, end: (N, 3) mm.
        radii: (N, 2) at start and end, mm.
    """

    start: NDArray[np.float64]
    end: NDArray[np.float64]
    radii: NDArray[np.float64]

    def moved(self, rotation: NDArray[np.float64], shift: NDArray[np.float64]) -> Tubes:
        """The tubes after a rigid motion, ``rotation`` (3, 3) first."""
        return Tubes(self.start @ rotation.T + shift, self.end @ rotation.T + shift, self.radii)

    def coverage(self, x: Array, y: Array, z: float) -> Array:
        """Coverage of the pixels, (X, Y)."""
        pixel = float(x[1, 0] - x[0, 0])
        covered = np.zeros((x.size, y.size), dtype=np.float32)
        reach = self.radii.max(axis=1, initial=0.0)[:, None] + pixel
        low, high = np.minimum(self.start, self.end) - reach, np.maximum(self.start, self.end) + reach
        corner = np.array([x[0, 0], y[0, 0]])
        first = np.ceil((low[:, :2] - corner) / pixel).clip(0).astype(int)
        last = np.floor((high[:, :2] - corner) / pixel).clip(-1, np.array(covered.shape) - 1).astype(int) + 1
        seen = (low[:, 2] <= z) & (z <= high[:, 2]) & (first < last).all(axis=1)
        _cover(covered, Tubes(self.start[seen], self.end[seen], self.radii[seen]), first[seen], last[seen], x, y, z)
        return covered


def _cover(
    covered: Array, tubes: Tubes, first: NDArray[np.int_], last: NDArray[np.int_], x: Array, y: Array, z: float
) -> None:
    """Lays tubes over a coverage (X, Y), each over the pixels from ``first`` to ``last`` (N, 2); all at once."""
    sizes = last - first
    pixels = sizes.prod(axis=1)
    tube = np.repeat(np.arange(len(pixels)), pixels)
    within = np.arange(len(tube)) - np.repeat(np.cumsum(pixels) - pixels, pixels)
    column, row = first[tube, 0] + within // sizes[tube, 1], first[tube, 1] + within % sizes[tube, 1]

    def each(values: NDArray[np.float64]) -> Array:
        return values.astype(np.float32)[tube]

    axis = tubes.end - tubes.start
    length2 = (axis * axis).sum(axis=1)
    height = z - tubes.start[:, 2]
    dx, dy = x[column, 0] - each(tubes.start[:, 0]), y[0, row] - each(tubes.start[:, 1])
    along = (dy * each(axis[:, 1]) + each(height * axis[:, 2])) / each(length2)
    share = np.minimum(np.maximum(dx * each(axis[:, 0] / length2) + along, 0.0), 1.0)
    squared = (dx - share * each(axis[:, 0])) ** 2 + (dy - share * each(axis[:, 1])) ** 2
    distance = np.sqrt(squared + (each(height) - share * each(axis[:, 2])) ** 2)
    radius = each(tubes.radii[:, 0]) + share * each(tubes.radii[:, 1] - tubes.radii[:, 0])
    pixel = float(x[1, 0] - x[0, 0])
    filled = np.minimum(np.maximum((radius - distance) / pixel + 0.5, 0.0), 1.0)
    np.maximum.at(covered, (column, row), filled * np.minimum(2.0 * radius / pixel, 1.0))


def step(distance: Array, softness: float) -> Array:
    """Coverage by a shape from the signed distance to its surface (negative inside), mm."""
    return 0.5 - 0.5 * np.tanh(distance / np.float32(softness))


def paint(hu: Array, coverage: Array, tissue: Array | float) -> None:
    """Lays a tissue over an image, in place."""
    hu += coverage * (tissue - hu)
